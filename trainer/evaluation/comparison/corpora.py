"""The size of the text that teachers will read."""

from collections.abc import Mapping

from schemas.corpus.config import TextConfig
from schemas.errors import UserError
from trainer.evaluation.formats.text import open_text


def count_bytes(corpora: Mapping[str, TextConfig]) -> dict[str, int]:
    """By language, the bytes of the records that are read, uncompressed; of JSON lines with what stands around the text.

    Raises:
      UserError: a file is missing or is not what its name says.
    """
    try:
        texts = {language: open_text(language, corpus) for language, corpus in corpora.items()}
    except UserError as error:
        raise UserError(f"comparison.corpora: {error}") from None
    return {language: text.bytes * text.records // text.total for language, text in texts.items()}
