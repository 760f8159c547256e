"""Compiles a table of character replacements into SentencePiece's `precompiled_charsmap`.

This is the only form of such a table that a plain `tokenizer.json` can hold. SentencePiece itself
compiles it, into a model that is trained on one word and has no other use.
"""

import io
import tempfile

from sentencepiece import SentencePieceTrainer
from sentencepiece.sentencepiece_model_pb2 import ModelProto


def compile_charsmap(table: dict[str, str]) -> bytes:
    """Compiles `table`, which maps strings to their replacements."""
    rules = "".join(f"{_codes(source)}\t{_codes(target)}\n" for source, target in sorted(table.items()))
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.write(rules)
        file.flush()
        SentencePieceTrainer.train(
            sentence_iterator=iter(["a"]),
            model_writer=model,
            model_type="char",
            vocab_size=5,
            hard_vocab_limit=False,
            normalization_rule_tsv=file.name,
            minloglevel=2,
        )
    return ModelProto.FromString(model.getvalue()).normalizer_spec.precompiled_charsmap


def _codes(text: str) -> str:
    return " ".join(f"{ord(character):X}" for character in text)
