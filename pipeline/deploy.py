"""The tokenizers of a folder of predictions, from which the student's are copied.

`_tokenizers/teachers/<name>` segments as that teacher does, in merged ids;
`_tokenizers/default` is for any text; `_words.parquet` is what the latter was fitted to.
"""

import tempfile
from pathlib import Path

import pyarrow as pa
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipeline.default_tokenizer import default_tokenizer
from pipeline.words import WORDS_FILE, write_words
from schemas.errors import UserError, first_line
from schemas.manifest import DEFAULT_TOKENIZER, TEACHER_TOKENIZERS
from schemas.storage import filesystem, join, write_bytes
from schemas.vocabulary import Vocabulary


def deploy_tokenizers(
    folder: str, remapped: dict[str, PreTrainedTokenizerFast], vocabulary: Vocabulary, words: pa.Table
) -> None:
    """Writes the teachers' tokenizers, the default one and the words it was fitted to.

    With a single teacher the default is that teacher's own.

    Args:
      remapped: by teacher, with merged ids; one for every teacher of `vocabulary`.
    """
    for name, tokenizer in remapped.items():
        write_tokenizer(join(folder, TEACHER_TOKENIZERS, name), tokenizer)
    write_words(join(folder, WORDS_FILE), words)
    if len(remapped) == 1:
        (default,) = remapped.values()
    else:
        length = min(tokenizer.model_max_length for tokenizer in remapped.values())
        # In the vocabulary's order, whatever the order in which a run came by them.
        backends = [remapped[name].backend_tokenizer for name in vocabulary.teacher_ids]
        default = default_tokenizer(vocabulary, words, backends, length)
    write_tokenizer(join(folder, DEFAULT_TOKENIZER), default)


def deployed_tokenizers(folder: str, vocabulary: Vocabulary) -> dict[str, PreTrainedTokenizerFast]:
    """The tokenizers with merged ids of all teachers of `vocabulary`, in its order."""
    return {name: read_tokenizer(join(folder, TEACHER_TOKENIZERS, name)) for name in vocabulary.teacher_ids}


def write_tokenizer(folder: str, tokenizer: PreTrainedTokenizerFast) -> None:
    """Saves a tokenizer in the Hugging Face layout to any fsspec URL."""
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        for file in sorted(Path(scratch).iterdir()):
            write_bytes(join(folder, file.name), file.read_bytes())


def read_tokenizer(folder: str) -> PreTrainedTokenizerFast:
    """Loads a tokenizer in the Hugging Face layout from any fsspec URL. UserError where there is none."""
    fs, root = filesystem(folder)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            fs.get(root.rstrip("/") + "/", scratch, recursive=True)
            return AutoTokenizer.from_pretrained(scratch)
        except Exception as error:  # tokenizers raises nothing more specific
            raise UserError(f"{folder}: no tokenizer ({first_line(error)}); rerun the pipeline that wrote it") from None
