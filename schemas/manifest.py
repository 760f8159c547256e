"""The manifest: what a folder of predictions holds and how it was made.

`_manifest.json` is written last. A folder without it is unfinished; with it, every
listed file is complete.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas import SCHEMA_VERSION
from schemas.errors import UserError
from schemas.storage import filesystem, join, list_files, reaching, read_bytes, write_bytes
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
    whole_words: bool = False


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


class AuditRecord(_Record):
    """What was stored of one teacher's predictions, beside its full distributions.

    A sample of the rows was predicted once more, each by itself. Means over `positions`:

      kl: KL(full || stored) in nats, where what the stored top-k leave is spread evenly
        over the rest of the teacher's vocabulary.
      kl_top_k: the same with the exact log-probabilities: what keeping k costs. The
        difference is due to float16 and, in low precision, to other batches' rounding.
      tail_mass: probability outside the top-k.
      accuracy: share of positions where the first prediction is the label.
    """

    rows: int
    positions: int
    kl: float
    kl_top_k: float
    tail_mass: float
    accuracy: float


class LanguageRecord(_Record):
    """What became of one language's text, read by one teacher. `records` counts the
    records read: each was either used (it is in one or more rows) or rejected. `dtypes`
    are what the teacher was run in."""

    language: str
    teacher: str
    records: int
    used: int
    rejected: dict[str, int]
    rows: int
    dtypes: list[str] = []
    audit: AuditRecord | None = None


class Manifest(_Record):
    """Everything a reader needs to trust a folder of predictions."""

    schema_version: int
    top_k: int
    seed: int
    max_length: int
    masking: Masking
    packing: bool = False
    identity: str = "family"
    teachers: dict[str, TeacherRecord]
    vocabulary: VocabularyRecord
    languages: list[LanguageRecord]
    files: list[FileRecord]

    @property
    def sha256(self) -> str:
        """The fingerprint of all that it says."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


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


@dataclass(frozen=True)
class PredictionFile:
    """One Parquet file: where it lies and what its footer must say."""

    url: str
    record: FileRecord
    top_k: int
    vocabulary_sha256: str


@dataclass(frozen=True)
class Predictions:
    """Folders of predictions over one merged vocabulary, checked.

    Attributes:
      folders: where they lie, as given.
      manifests: theirs, in that order.
      vocabulary: the largest; it extends all the others, so that every id in every file is its id.
      newest: the folder it was read from.
    """

    folders: list[str]
    manifests: list[Manifest]
    vocabulary: Vocabulary
    newest: str

    @property
    def top_k(self) -> int:
        """Predictions a masked position, the same in all folders."""
        return self.manifests[0].top_k

    @property
    def max_length(self) -> int:
        """The longest sequence, in tokens."""
        return max(manifest.max_length for manifest in self.manifests)

    @property
    def language_names(self) -> list[str]:
        """The languages that have rows, sorted."""
        return sorted({file.record.language for file in self.files if file.record.rows})

    @property
    def teacher_names(self) -> list[str]:
        """The teachers that have rows, sorted."""
        return sorted({file.record.teacher for file in self.files if file.record.rows})

    @cached_property
    def files(self) -> list[PredictionFile]:
        """All files, folder by folder."""
        return [
            PredictionFile(join(folder, file.path), file, manifest.top_k, manifest.vocabulary.sha256)
            for folder, manifest in zip(self.folders, self.manifests, strict=True)
            for file in manifest.files
        ]

    @property
    def teachers(self) -> dict[str, TeacherRecord]:
        """By name; a later folder is likelier to say where a teacher lies today."""
        return {name: teacher for manifest in self.manifests for name, teacher in manifest.teachers.items()}

    def teacher_of(self, language: str) -> str:
        """The first teacher that teaches `language`."""
        teachers = (item for manifest in self.manifests for item in manifest.teachers.items())
        return next(name for name, teacher in teachers if language in teacher.languages)

    @property
    def sha256(self) -> str:
        """The fingerprint of all that the manifests say."""
        return hashlib.sha256("".join(manifest.sha256 for manifest in self.manifests).encode()).hexdigest()


def open_predictions(*folders: str) -> Predictions:
    """Opens folders of predictions, checked in themselves and against each other.

    Raises:
      UserError: a mismatch, naming both values, a listed file that is missing, or a storage that does not answer.
    """
    if len({folder.rstrip("/") for folder in folders}) < len(folders):
        raise UserError(f"{', '.join(folders)}: a folder is given twice")
    with reaching(", ".join(folders)):
        manifests = [read_manifest(folder) for folder in folders]
        vocabularies = [read_vocabulary(join(folder, VOCABULARY_FILE)) for folder in folders]
        for folder, manifest, vocabulary in zip(folders, manifests, vocabularies, strict=True):
            _check_folder(folder, manifest, vocabulary)
    newest = max(
        range(len(folders)), key=lambda index: (len(vocabularies[index]), len(vocabularies[index].teacher_ids))
    )
    for folder, manifest, vocabulary in zip(folders, manifests, vocabularies, strict=True):
        if not vocabularies[newest].extends(vocabulary):
            raise UserError(
                f"{folder}: its vocabulary ({manifest.vocabulary.sha256}) is no part of that of {folders[newest]} "
                f"({manifests[newest].vocabulary.sha256}); run the pipeline for the later one with "
                "`extends: <the earlier folder>`"
            )
        if manifest.top_k != manifests[0].top_k:
            raise UserError(
                f"{folder}: top_k is {manifest.top_k}, but in {folders[0]} it is {manifests[0].top_k}; "
                "folders that are read together need the same"
            )
        for name, teacher in manifest.teachers.items():
            known = manifests[0].teachers.get(name, teacher)
            if teacher.fingerprint != known.fingerprint:
                raise UserError(
                    f"{folder}: its teacher {name!r} is {teacher.fingerprint[:12]}, but in {folders[0]} it is "
                    f"{known.fingerprint[:12]}; give different teachers different names"
                )
    return Predictions(list(folders), manifests, vocabularies[newest], folders[newest])


def _check_folder(folder: str, manifest: Manifest, vocabulary: Vocabulary) -> None:
    if vocabulary.sha256 != manifest.vocabulary.sha256:
        raise UserError(
            f"{join(folder, VOCABULARY_FILE)}: sha256 {vocabulary.sha256}, but the manifest says "
            f"{manifest.vocabulary.sha256}; the vocabulary is from another run"
        )
    present = list_files(folder)
    for file in manifest.files:
        if file.path not in present:
            raise UserError(f"{join(folder, file.path)}: listed in the manifest but missing; rerun the pipeline")


def read_footer(url: str) -> pq.FileMetaData:
    """The Parquet footer of `url`; UserError where it is truncated or no Parquet at all."""
    fs, path = filesystem(url)
    try:
        with fs.open(path, "rb") as file:
            return pq.read_metadata(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{url}: not a whole Parquet file ({error}); remove it and rerun the pipeline") from None
