"""The manifest: what a folder of predictions holds and how it was made.

`_manifest.json` is written last. A folder without it is unfinished; with it, every
listed file is complete.
"""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas import SCHEMA_VERSION
from schemas.errors import UserError
from schemas.storage import filesystem, join, list_files, read_bytes, write_bytes
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary

MANIFEST_FILE = "_manifest.json"
# Tokenizers with merged ids, in the Hugging Face layout: one a teacher, and one for any text.
TEACHER_TOKENIZERS = "_tokenizers/teachers"
DEFAULT_TOKENIZER = "_tokenizers/default"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Masking(_Record):
    """How positions were chosen and what stands there. Shares, not percentages."""

    rate: float
    mask: float
    random: float
    keep: float
    copies: int


class TeacherRecord(_Record):
    """One teacher: where it came from and exactly which it was."""

    model: str
    revision: str | None
    family: str
    languages: list[str]
    vocabulary_size: int
    fingerprint: str


class VocabularyRecord(_Record):
    """The merged vocabulary's size and sha256."""

    size: int
    sha256: str


class FileRecord(_Record):
    """One Parquet file. `path` is relative to the folder; `row_groups` are rows each."""

    path: str
    language: str
    teacher: str
    rows: int
    row_groups: list[int]
    tokens: int
    masked_positions: int


class LanguageRecord(_Record):
    """What became of one language's text, read by one teacher. `records` counts the
    lines read: each was either used (and gave one or more rows) or rejected."""

    language: str
    teacher: str
    records: int
    used: int
    rejected: dict[str, int]
    rows: int


class Manifest(_Record):
    """Everything a reader needs to trust a folder of predictions."""

    schema_version: int
    top_k: int
    seed: int
    max_length: int
    masking: Masking
    teachers: dict[str, TeacherRecord]
    vocabulary: VocabularyRecord
    languages: list[LanguageRecord]
    files: list[FileRecord]

    @property
    def sha256(self) -> str:
        """The fingerprint of all that it says."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def language_names(self) -> list[str]:
        """The languages that have rows, sorted."""
        return sorted({file.language for file in self.files if file.rows})


def write_manifest(folder: str, manifest: Manifest) -> None:
    """Commits a finished folder."""
    write_bytes(join(folder, MANIFEST_FILE), manifest.model_dump_json(indent=2).encode() + b"\n")


def read_manifest(folder: str) -> Manifest:
    """Reads and checks the manifest of `folder`.

    Raises:
      UserError: no manifest, another schema version (both are named), or not ours.
    """
    url = join(folder, MANIFEST_FILE)
    try:
        content = json.loads(read_bytes(url))
    except FileNotFoundError:
        raise UserError(f"{url}: not found; the pipeline writes it last, so run (or rerun) it to the end") from None
    except ValueError as error:
        raise UserError(f"{url}: not JSON ({error})") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{url}: schema version {version}, but this program reads version {SCHEMA_VERSION}; "
            "rerun the pipeline into a new folder"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        raise UserError(f"{url}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def open_predictions(folder: str) -> tuple[Manifest, Vocabulary]:
    """The manifest and merged vocabulary of `folder`, checked against each other.

    Raises:
      UserError: a mismatch, naming both values, or a listed file that is missing.
    """
    manifest = read_manifest(folder)
    vocabulary = read_vocabulary(join(folder, VOCABULARY_FILE))
    if vocabulary.sha256 != manifest.vocabulary.sha256:
        raise UserError(
            f"{join(folder, VOCABULARY_FILE)}: sha256 {vocabulary.sha256}, but the manifest says "
            f"{manifest.vocabulary.sha256}; the vocabulary is from another run"
        )
    present = list_files(folder)
    for file in manifest.files:
        if file.path not in present:
            raise UserError(f"{join(folder, file.path)}: listed in the manifest but missing; rerun the pipeline")
    return manifest, vocabulary


def read_footer(url: str) -> pq.FileMetaData:
    """The Parquet footer of `url`; UserError where it is truncated or no Parquet at all."""
    fs, path = filesystem(url)
    try:
        with fs.open(path, "rb") as file:
            return pq.read_metadata(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{url}: not a whole Parquet file ({error}); remove it and rerun the pipeline") from None
