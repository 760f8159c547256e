"""The tokenizers of a folder of predictions, from which the student's are copied.

`_tokenizers/teachers/<name>` segments like that teacher, in merged ids;
`_tokenizers/default` is for any text; `_words.parquet` holds the words that the latter was fitted to.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from pipeline.student_tokenizers.default import default_tokenizer
from pipeline.student_tokenizers.remap import fill_vocabulary
from pipeline.student_tokenizers.word_counts import WORDS_FILE, write_words
from pipeline.teachers.exact_tokenizer import tokenizer_faults
from pipeline.teachers.tokenizer_json import ROLE_NAMES
from schemas.errors import UserError
from schemas.manifest import DEFAULT_TOKENIZER, TEACHER_TOKENIZERS
from schemas.storage import join, write_bytes
from schemas.tokenizer_files import read_tokenizer_files
from schemas.vocabulary import Vocabulary

_TRIED_WORDS = 1000
_STATE, _SETTINGS = "tokenizer.json", "tokenizer_config.json"
_KEPT_SETTINGS = {*ROLE_NAMES, "model_max_length", "clean_up_tokenization_spaces"}


@dataclass(frozen=True)
class StudentTokenizers:
    """All tokenizers of a folder, tried: `teachers` by name and `default`, over `size` merged ids; and `words`."""

    teachers: dict[str, PreTrainedTokenizerFast]
    default: PreTrainedTokenizerFast
    words: pa.Table
    size: int


def make_tokenizers(
    remapped: dict[str, PreTrainedTokenizerFast], vocabulary: Vocabulary, words: pa.Table
) -> StudentTokenizers:
    """Fits the default tokenizer, and tries all: saves and reloads them, and runs them on the most common words.

    With a single teacher, the default tokenizer is that teacher's.

    Args:
      remapped: by teacher, with merged ids; one for every teacher of `vocabulary`.
      words: how the teachers segment words (`pipeline.student_tokenizers.word_counts`).

    Raises:
      UserError: a tokenizer cannot be made or loaded, or behaves differently after it is loaded.
    """
    texts = words["word"].slice(0, _TRIED_WORDS).to_pylist()
    for name, tokenizer in remapped.items():
        _try(f"teacher {name!r}: its tokenizer with merged ids", tokenizer, len(vocabulary), texts)
    if len(remapped) == 1:
        (default,) = remapped.values()
        return StudentTokenizers(remapped, default, words, len(vocabulary))
    with tokenizer_faults("the default tokenizer cannot be made"):
        length = min(tokenizer.model_max_length for tokenizer in remapped.values())
        # Uses the order of the vocabulary, so that the order of `remapped` does not matter.
        backends = [remapped[name].backend_tokenizer for name in vocabulary.teacher_ids]
        default = default_tokenizer(vocabulary, words, backends, length)
    _try("the default tokenizer", default, len(vocabulary), texts)
    return StudentTokenizers(remapped, default, words, len(vocabulary))


def _try(what: str, tokenizer: PreTrainedTokenizerFast, size: int, texts: list[str]) -> None:
    """Raises UserError if `tokenizer` fails, or behaves differently after it is saved and loaded."""
    with tokenizer_faults(f"{what} fails"), tempfile.TemporaryDirectory() as scratch:
        write_tokenizer(scratch, tokenizer, size)
        loaded = PreTrainedTokenizerFast.from_pretrained(scratch)
        expected = tokenizer(texts)["input_ids"] if texts else []
        for text, ids, again in zip(texts, expected, loaded(texts)["input_ids"] if texts else [], strict=True):
            if ids != again or tokenizer.decode(ids) != loaded.decode(ids):
                raise UserError(f"{what} changes when it is saved and loaded: {text!r} gives {again}, not {ids}")


def write_tokenizers(folder: str, tokenizers: StudentTokenizers) -> None:
    """Writes the teachers' tokenizers, the words and, last, the default tokenizer."""
    for name, tokenizer in tokenizers.teachers.items():
        write_tokenizer(join(folder, TEACHER_TOKENIZERS, name), tokenizer, tokenizers.size)
    write_words(join(folder, WORDS_FILE), tokenizers.words)
    write_tokenizer(join(folder, DEFAULT_TOKENIZER), tokenizers.default, tokenizers.size)


def read_tokenizers(folder: str, vocabulary: Vocabulary) -> dict[str, PreTrainedTokenizerFast]:
    """Reads the tokenizers with merged ids of all teachers of `vocabulary`, in its order."""
    return {
        name: read_tokenizer(join(folder, TEACHER_TOKENIZERS, name), len(vocabulary)) for name in vocabulary.teacher_ids
    }


def write_tokenizer(folder: str, tokenizer: PreTrainedTokenizerFast, size: int = 0) -> None:
    """Saves a tokenizer in the Hugging Face layout to any fsspec URL, so that transformers 4 and 5 load it alike.

    Args:
      size: its vocabulary is filled up to this many entries (`fill_vocabulary`).
    """
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        state = json.loads((Path(scratch) / _STATE).read_bytes())
        settings = json.loads((Path(scratch) / _SETTINGS).read_bytes())
    fill_vocabulary(state, size)
    write_bytes(join(folder, _STATE), _json(state, separators=(",", ":")))
    write_bytes(join(folder, _SETTINGS), _json(_plain_settings(settings, state), indent=2, sort_keys=True))


def _plain_settings(settings: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that matter beside the `tokenizer.json` state, as transformers 4 would write them."""
    plain = {name: value for name, value in settings.items() if name in _KEPT_SETTINGS}
    plain["tokenizer_class"] = "PreTrainedTokenizerFast"
    # Transformers 4 would also produce token types, which DistilBERT, for example, does not accept.
    plain["model_input_names"] = ["input_ids", "attention_mask"]
    if "extra_special_tokens" in settings:
        plain["additional_special_tokens"] = settings["extra_special_tokens"]
    # Transformers 4 would change the pre-tokenizer to match this setting.
    prefixed = (state["pre_tokenizer"] or {}).get("add_prefix_space")
    return plain if prefixed is None else plain | {"add_prefix_space": prefixed}


def _json(value: dict[str, Any], **layout: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, **layout).encode() + b"\n"


def read_tokenizer(folder: str, size: int) -> PreTrainedTokenizerFast:
    """Loads a tokenizer in the Hugging Face layout from any fsspec URL, without running code from its folder.

    Raises:
      UserError: it cannot be loaded, or has ids beyond the `size` merged ones.
    """
    files = read_tokenizer_files(folder)
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            (Path(scratch) / name).write_bytes(content)
        with tokenizer_faults(f"{folder}: the tokenizer cannot be loaded; rerun the pipeline that wrote it"):
            tokenizer = PreTrainedTokenizerFast.from_pretrained(scratch)
    if len(tokenizer) > size or max(tokenizer.all_special_ids, default=0) >= size:
        raise UserError(f"{folder}: its tokenizer has more tokens than the {size:,} merged ones; rerun the pipeline")
    return tokenizer
