"""How a tokenizer splits a language's words.

Legend: U records, C characters of one, W its words, T its tokens.
"""

from typing import ClassVar

import numpy as np

from trainer.evaluation.models import Model
from trainer.evaluation.pieces import make_pieces
from trainer.evaluation.tasks.plain_text import PlainTextTask
from trainer.evaluation.tasks.task import Job, Metric, Ratio, Scores
from trainer.evaluation.words import words_of_characters


class Tokenization(PlainTextTask):
    """Tokens per word, words kept whole, and characters in unknown tokens.

    Words depend only on the text (`trainer.evaluation.words`). The figure `bytes_per_token` counts UTF-8 bytes and includes
    the special tokens around sequences.
    """

    key, title = "tokenization", "tokenization"
    metrics: ClassVar = (
        Metric("tokens_per_word", "tokens per word", higher_is_better=False, ranks=False),
        Metric("whole_words", "words kept whole", ranks=False),
        Metric("unknown_rate", "unknown characters", higher_is_better=False, ranks=False),
    )
    auto_class = None
    settings = ("max_length",)

    def run(self, job: Job, model: Model) -> list[Scores]:
        """Tokenizes one language's text; needs no weights."""
        records = list(self.texts[job.language])
        tokenizer = model.tokenizer(job.language)
        pieces = make_pieces(records, tokenizer, min(self.config.max_length, model.max_length))
        ordinary = np.flatnonzero(pieces.starts_T >= 0)
        text_T = np.repeat(pieces.text_P, pieces.lengths_P)[ordinary]
        edges = np.searchsorted(text_T, np.arange(len(records) + 1))
        words_U, whole_U = np.zeros((2, len(records)))
        for number, text in enumerate(records):
            words_C = words_of_characters(text)
            tokens = ordinary[edges[number] : edges[number + 1]]
            is_known_T = pieces.ids_T[tokens] != tokenizer.unk_token_id
            words_U[number] = words_C.max(initial=-1) + 1
            whole_U[number] = whole_words(words_C, pieces.starts_T[tokens], pieces.ends_T[tokens], is_known_T)
        ratios = {
            "tokens_per_word": Ratio(np.diff(edges).astype(float), words_U),
            "whole_words": Ratio(whole_U, words_U),
            "unknown_rate": Ratio(pieces.unknown_N.astype(float), pieces.characters_N.astype(float)),
        }
        size = sum(len(text.encode()) for text in records)
        return [Scores(job.language, ratios, {"bytes_per_token": size / max(1, len(pieces.ids_T))})]


def whole_words(words_C: np.ndarray, starts_T: np.ndarray, ends_T: np.ndarray, is_known_T: np.ndarray) -> int:
    """Returns how many words are entirely in one known token; several words may share a token.

    Args:
      words_C: as `words_of_characters` returns them.
      starts_T, ends_T: the characters that each token stands for.
      is_known_T: whether each is not the unknown token.
    """
    word_count = int(words_C.max(initial=-1)) + 1
    tokens_W, known_W = np.zeros((2, word_count), np.int64)
    for start, end, is_known in zip(starts_T.tolist(), ends_T.tolist(), is_known_T.tolist(), strict=True):
        touched = words_C[start:end]
        touched = touched[touched >= 0]
        if len(touched):
            tokens_W[touched[0] : touched[-1] + 1] += 1
            known_W[touched[0] : touched[-1] + 1] += is_known
    return int(((tokens_W == 1) & (known_W == 1)).sum())
