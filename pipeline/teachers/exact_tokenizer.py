"""Loads a teacher's tokenizer as a fast one that segments exactly as published.

`AutoTokenizer` says which special tokens there are. The segmentation itself comes
from `tokenizer.json` if there is one, because several classes of transformers 5 rebuild
the normalizer and pre-tokenizer instead of reading them (DeBERTa-v2, ALBERT, RemBERT,
BERT whose configuration lacks `do_lower_case`); else from a SentencePiece `.model`;
else from what transformers makes of `vocab.txt` or `vocab.json` and `merges.txt`.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER
from transformers.utils import cached_file

from pipeline.config import TeacherConfig
from pipeline.teachers.character_tokenizer import from_characters
from pipeline.teachers.faults import loading_fault
from pipeline.teachers.sentencepiece_import import from_sentencepiece
from pipeline.teachers.tokenizer_json import ROLE_NAMES
from schemas.errors import UserError, first_line

_CONVERT = (
    "add a tokenizer.json to its files, from another checkpoint with the same vocabulary, or made with the tokenizers "
    "library (Tokenizer.save) and compared with the original"
)


@contextmanager
def tokenizer_faults(what: str) -> Iterator[None]:
    """Turns exceptions of transformers or tokenizers into a UserError about `what`."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        # tokenizers raises plain Exceptions; its panics are BaseExceptions.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(f"{what}: {first_line(error)}") from None


def load_exact_tokenizer(where: str, config: TeacherConfig) -> PreTrainedTokenizerFast:
    """Loads the tokenizer of `config.model`, without truncation and padding.

    Args:
      where: names the teacher in errors.

    Raises:
      UserError: it cannot be loaded, has no vocabulary, exists only as Python code, or
        would give an added token a different id than its files say.
    """
    declared = _declared(where, config)
    # Accessed as an attribute of transformers: importing AutoTokenizer loads torch, which trimming does not need.
    if file := _file(where, config, "tokenizer.json"):
        with tokenizer_faults(f"{where}: its tokenizer.json cannot be loaded"):
            backend = Tokenizer.from_file(file)
        named = _named_tokens(where, config, transformers.AutoTokenizer, PreTrainedTokenizerFast)
    else:
        named = _named_tokens(where, config, transformers.AutoTokenizer)
        backend = _from_vocabulary(where, named, declared)
    # The pipeline truncates by itself: a tokenizer.json may set another length.
    backend.no_truncation()
    backend.no_padding()
    known = backend.get_vocab(with_added_tokens=True)
    missing = [token for _, token in sorted(named.added_tokens_decoder.items()) if token.content not in known]
    backend.add_tokens([token for token in missing if token.content in declared])
    known = backend.get_vocab(with_added_tokens=True)
    _check_ids(where, known)
    _check_added(where, backend, declared)
    # Passed as AddedTokens, to keep flags such as the mask's lstrip; the file's flags take precedence over the class's.
    added = named.added_tokens_decoder | backend.get_added_tokens_decoder()
    roles = {name: added.get(known[token], token) for name in ROLE_NAMES if (token := getattr(named, name)) in known}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=_max_length(where, named.model_max_length),
        clean_up_tokenization_spaces=named.clean_up_tokenization_spaces,
        **roles,
    )


def _check_added(where: str, backend: Tokenizer, declared: dict[str, int]) -> None:
    """Raises UserError if an added token does not have its declared id, or cannot be kept with merged ids."""
    known = backend.get_vocab(with_added_tokens=True)
    for content, token_id in declared.items():
        if known.get(content) != token_id:
            raise UserError(
                f"{where}: its added token {content!r} should have the id {token_id}, but its vocabulary gives it "
                f"{known.get(content)}; repair its files"
            )
    if isinstance(backend.model, models.WordPiece) and backend.model.unk_token not in known:
        raise UserError(f"{where}: its vocabulary lacks its unknown token, {backend.model.unk_token}; repair its files")
    model_vocabulary = backend.get_vocab(with_added_tokens=False)
    for token in backend.get_added_tokens_decoder().values():
        if token.single_word and token.content not in model_vocabulary:
            # With merged ids it must be in the model's vocabulary, which would match it within words too.
            raise UserError(
                f"{where}: its added token {token.content!r} has the flag single_word, which merged ids cannot keep; remove the token"
            )


def _named_tokens(where: str, config: TeacherConfig, *classes: Any) -> PreTrainedTokenizerBase:
    """Loads the tokenizer with the first of `classes` that can load it."""
    errors = []
    for tokenizer_class in classes:
        try:
            return tokenizer_class.from_pretrained(
                config.model, revision=config.revision, trust_remote_code=config.trust_remote_code
            )
        except Exception as error:  # Some classes fail in unforeseen ways on files that are not in their layout.
            errors.append(error)
    if isinstance(errors[0], ImportError):
        # A tokenizer that needs a package to segment has no fast form, so installing the package would not help.
        raise UserError(
            f"{where}: its tokenizer needs Python code ({first_line(errors[0]).partition('. ')[0]}), from which no "
            f"tokenizer for the student can be made, even if it is installed; {_CONVERT}"
        )
    raise UserError(f"{where}: its tokenizer cannot be loaded: {loading_fault(errors[0], config)}")


def _check_ids(where: str, known: dict[str, int]) -> None:
    """Raises UserError if two tokens have the same id, because no map of ids can keep them apart."""
    by_id: dict[int, str] = {}
    for token, token_id in known.items():
        if by_id.setdefault(token_id, token) != token:
            first, second = sorted((token, by_id[token_id]))
            raise UserError(
                f"{where}: its tokens {first!r} and {second!r} both have the id {token_id}; repair its files"
            )


def _max_length(where: str, length: Any) -> int:
    """Returns the most tokens in a sequence that its files allow; transformers' largest number if they set no limit."""
    if length is None:
        return VERY_LARGE_INTEGER
    if isinstance(length, bool) or not isinstance(length, int | float) or not 1 <= length < math.inf:
        raise UserError(f"{where}: its model_max_length is {length!r}, not a number of tokens; repair its files")
    return int(length)


def _from_vocabulary(where: str, tokenizer: PreTrainedTokenizerBase, declared: dict[str, int]) -> Tokenizer:
    """Makes the fast tokenizer of a teacher that has no tokenizer.json."""
    class_name = type(tokenizer).__name__
    if class_name == "EsmTokenizer":
        return from_characters(tokenizer)
    if not tokenizer.is_fast:
        raise UserError(
            f"{where}: {class_name} exists only as Python code, from which no tokenizer for the student can be made; "
            f"{_CONVERT}"
        )
    vocabulary = getattr(tokenizer, "vocab_file", None) or tokenizer.init_kwargs.get("vocab_file")
    if not vocabulary:
        raise UserError(
            f"{where}: it has neither a tokenizer.json nor a vocabulary file that {class_name} reads; add one"
        )
    if str(vocabulary).endswith(".model"):
        return from_sentencepiece(where, tokenizer, vocabulary)
    settings = tokenizer.init_kwargs
    if settings.get("do_basic_tokenize") is False or settings.get("never_split"):
        raise UserError(
            f"{where}: its settings do_basic_tokenize and never_split have no equivalent in fast tokenizers; convert it to "
            "a tokenizer.json first"
        )
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # transformers' classes make up ids for special tokens that the vocabulary lacks.
    in_files = state["model"]["vocab"].keys() | declared.keys()
    state["added_tokens"] = [added for added in state["added_tokens"] if added["content"] in in_files]
    return Tokenizer.from_str(json.dumps(state))


def _declared(where: str, config: TeacherConfig) -> dict[str, int]:
    """Returns the added tokens and their ids from the teacher's files."""
    declared: dict[str, int] = {}
    for name in ("added_tokens.json", "tokenizer_config.json"):
        if file := _file(where, config, name):
            try:
                content = json.loads(Path(file).read_text(encoding="utf-8"))
                if name == "tokenizer_config.json":
                    decoder = content.get("added_tokens_decoder", {})
                    content = {added["content"]: token_id for token_id, added in decoder.items()}
                declared |= {token: int(token_id) for token, token_id in content.items()}
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(f"{where}: its {name} cannot be read: {first_line(error)}") from None
    return declared


def _file(where: str, config: TeacherConfig, name: str) -> str | None:
    """Returns the local path of one of the teacher's files; None if there is no such file."""
    try:
        return cached_file(config.model, name, revision=config.revision, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: its tokenizer cannot be loaded: {loading_fault(error, config)}") from None
