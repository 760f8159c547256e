"""Pseudo-likelihood: how many bits a character of held-out text costs a model."""

from trainer.evaluation.models import Model
from trainer.evaluation.pseudo_likelihood import score_texts
from trainer.evaluation.tasks.plain_text import PlainTextTask
from trainer.evaluation.tasks.task import Job, Metric, Ratio, Scores


class Likelihood(PlainTextTask):
    """Bits per character of text, by `trainer.evaluation.pseudo_likelihood`. A unit is a record, however long.

    So that models of different tokenizers compare:
      - The denominator is the text's: its characters in NFC, white space included.
      - Words are the text's too (`trainer.evaluation.words`), and a token never sees the rest of its word.
      - Special tokens around a piece are not scored.
      - An unknown token costs its own bits and 20.1 (`UNKNOWN_BITS`) for each character that it hides.

    What is left is in the figures, shares of all characters: `changed_characters` are those that the tokenizer reads as others
    (it lowers case, drops accents; white space is not counted) and that the model therefore need not predict;
    `unknown_characters` are those that unknown tokens stand for.
    """

    key, title = "likelihood", "pseudo-likelihood"
    metrics = (Metric("bits_per_character", "bits per character", higher_is_better=False),)
    needs_mask_token = True
    settings = ("max_length",)

    def run(self, job: Job, model: Model) -> list[Scores]:
        """Bits per character of the job's language."""
        scores = score_texts(
            self.texts[job.language], model, job.language, self.config.max_length, self.config.batch_tokens
        )
        ratios = {"bits_per_character": Ratio(scores.bits_N, scores.characters_N.astype(float))}
        characters = int(scores.characters_N.sum())
        figures = {
            "changed_characters": int(scores.changed_N.sum()) / characters,
            "unknown_characters": int(scores.unknown_N.sum()) / characters,
        }
        return [Scores(job.language, ratios, figures)]
