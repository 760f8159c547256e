"""The manifest: what a folder of predictions holds and how it was made.

`_manifest.json` is written last, after the list of files (`schemas.file_table`). A folder without it is unfinished; in
a folder with it, every listed file is complete.
"""

import hashlib
import json
from operator import not_
from typing import Annotated

from pydantic import Field, ValidationError, computed_field, model_validator

from schemas import SCHEMA_VERSION
from schemas.errors import UserError, first_line
from schemas.file_table import FILES_FILE, FileTable
from schemas.names import Name
from schemas.record import Count, Record
from schemas.storage import join, read_bytes, write_bytes
from schemas.vocabulary import FIXED_COLUMNS

MANIFEST_FILE = "_manifest.json"
# Identifies the run that the folder belongs to. Written when the run starts.
RUN_FILE = "_run.json"
# Tokenizers with merged ids, in the Hugging Face layout: one for each teacher, and one for text of any language.
TEACHER_TOKENIZERS = "_tokenizers/teachers"
DEFAULT_TOKENIZER = "_tokenizers/default"

Share = Annotated[float, Field(ge=0, le=1)]


def _is_none(value: object) -> bool:
    return value is None


def _is_in_a_file(files: FileTable) -> bool:
    return not files.is_inline


class Masking(Record):
    """How masked positions were chosen, and what replaces their tokens. Shares are between 0 and 1."""

    mlm_probability: Share
    mask_replace_prob: Share
    random_replace_prob: Share
    keep_prob: Share
    copies: Annotated[int, Field(ge=1)]
    whole_words: bool = False

    @model_validator(mode="after")
    def _sum(self):
        if abs(self.mask_replace_prob + self.random_replace_prob + self.keep_prob - 1) > 1e-9:
            raise ValueError("mask_replace_prob, random_replace_prob and keep_prob do not add up to 1")
        return self


class MixedModelRecord(Record):
    """An additional model of a teacher, and its weight in the mean of the distributions."""

    model: str
    revision: str | None
    weight: Share


class TeacherRecord(Record):
    """One teacher: where it was loaded from, and a fingerprint of exactly what was loaded.

    `mixed_with` lists additional models with the same vocabulary; the weight of `model` is 1 minus the sum of theirs.
    """

    model: str
    revision: str | None
    mixed_with: list[MixedModelRecord] = Field([], exclude_if=not_)
    family: str
    languages: list[Name]
    vocabulary_size: Count
    fingerprint: str


class VocabularyRecord(Record):
    """The merged vocabulary's size and sha256."""

    size: Count
    sha256: str


class AuditRecord(Record):
    """How the stored predictions of one teacher differ from its full distributions.

    A sample of the rows was predicted again, one row at a time. The figures are means over `positions`:

      kl: KL(full || stored) in nats, where the probability outside the stored top-k is spread evenly over the rest of
        the teacher's vocabulary.
      kl_top_k: the same with the exact log-probabilities: the cost of keeping only k. Its difference to `kl` comes from
        float16 and, in low precision, from rounding, which differs between batches.
      tail_mass: probability outside the top-k.
      accuracy: share of positions where the first prediction is the label.

    With S tail samples, the stored data also gives an estimate of the cross-entropy of a student that predicts exactly
    like the teacher (the entropy of the full distribution), computed as in the loss `tail: sampled`: exactly over the
    top-k, and over the tail by the mean over its samples. The errors of this estimate, None if S = 0:

      sampled_error: the mean of |estimate - full|, in nats: the error of a single position's loss.
      sampled_bias: the mean of estimate - full, in nats. Over many positions it tends to the bias from rounding.
    """

    rows: Count
    positions: Count
    kl: float
    kl_top_k: float
    tail_mass: float
    accuracy: float
    sampled_error: float | None = Field(None, exclude_if=_is_none)
    sampled_bias: float | None = Field(None, exclude_if=_is_none)


class LanguageRecord(Record):
    """What happened to the text of one language, read by one teacher.

    `records` counts the records that were read. Each of them was either used (it is in one or more rows) or rejected.
    `failed` counts the shards that were left out because they could not be made; `records` does not include theirs.
    `dtypes` are the precisions in which the teacher ran.
    """

    language: Name
    teacher: Name
    records: Count
    used: Count
    rejected: dict[str, Count]
    rows: Count
    failed: Annotated[Count, Field(exclude_if=not_)] = 0
    dtypes: list[str] = Field([])
    audit: AuditRecord | None = None

    @model_validator(mode="after")
    def _adds_up(self):
        if self.used + sum(self.rejected.values()) != self.records:
            raise ValueError(f"{self.language} ({self.teacher}): used and rejected do not add up to records")
        return self


class Manifest(Record):
    """Everything a reader needs to trust a folder of predictions.

    `run_sha256` is the fingerprint of everything that decides the rows; the footer of every file has it too.
    `tail_samples` is S of `schemas.rows`; without it, the rows have no samples. `trimmed` means that predictions may be
    outside the vocabulary. `hub_models` lists the teachers' models that were not folders where the run was made, so
    they came from the hub. It is not part of `run_sha256`: the rows depend on what was loaded, not on where it came
    from.
    """

    schema_version: int
    run_sha256: str
    trimmed: bool = False
    top_k: Annotated[int, Field(ge=0, lt=2**31)]
    tail_samples: Annotated[int, Field(ge=0, lt=2**31, exclude_if=not_)] = 0
    seed: Count
    max_length: Annotated[int, Field(ge=1, lt=2**31)]
    masking: Masking
    packing: bool = False
    token_identity: str = "family"
    teachers: dict[Name, TeacherRecord]
    hub_models: list[str] = Field([], exclude_if=not_)
    vocabulary: VocabularyRecord
    languages: list[LanguageRecord]
    files: FileTable = Field(exclude_if=_is_in_a_file)

    @computed_field(exclude_if=_is_none)  # type: ignore[prop-decorator]
    @property
    def files_sha256(self) -> str | None:
        """The sha256 of `_files.parquet`; None if the manifest lists the files inline."""
        return None if self.files.is_inline else self.files.sha256

    @model_validator(mode="after")
    def _adds_up(self):
        if self.tail_samples and not self.top_k:
            raise ValueError(f"tail_samples is {self.tail_samples}, but with top_k 0 no teacher was run")
        if wrong := self.teachers.keys() & set(FIXED_COLUMNS):
            raise ValueError(f"a teacher cannot be called {min(wrong)!r}")
        rows = {(record.language, record.teacher): record.rows for record in self.languages}
        if len(rows) < len(self.languages):
            raise ValueError("languages: a language is listed twice with the same teacher")
        for language, teacher in rows:
            if teacher not in self.teachers or language not in self.teachers[teacher].languages:
                raise ValueError(
                    f"languages: {language} is listed with {teacher!r}, but no teacher of that name teaches it"
                )
        for pair, count in self.files.rows_by_pair().items():
            if pair not in rows:
                raise ValueError(f"files: languages has no record of {pair[0]} ({pair[1]})")
            rows[pair] -= count
        too_long_F = self.files.counts("tokens") > self.files.counts("rows") * self.max_length
        if too_long_F.any():
            raise ValueError(f"{self.files[int(too_long_F.argmax())].path}: more tokens than its rows can have")
        if wrong := [f"{language} ({teacher})" for (language, teacher), left in rows.items() if left]:
            raise ValueError(f"{wrong[0]}: rows is not the sum over its files")
        return self

    @property
    def sha256(self) -> str:
        """The fingerprint of the whole content, including the list of files."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def write_manifest(folder: str, manifest: Manifest) -> None:
    """Writes the list of files, then the manifest, which marks the folder as finished."""
    if not manifest.files.is_inline:
        write_bytes(join(folder, FILES_FILE), manifest.files.content)
    write_bytes(join(folder, MANIFEST_FILE), manifest.model_dump_json(indent=2).encode() + b"\n")


def read_manifest(folder: str) -> Manifest:
    """Reads and checks the manifest of `folder`.

    Raises:
      UserError: there is none, it has another schema version (both are named), or it or its list of files is not valid.
    """
    url = join(folder, MANIFEST_FILE)
    try:
        content = json.loads(read_bytes(url))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{url}: not found; the pipeline writes it last, so run (or rerun) it to the end") from None
    except IsADirectoryError:
        raise UserError(f"{url}: is a folder, not a manifest; give the right folder") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{url}: not JSON ({first_line(error)})") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{url}: schema version {str(version)[:50]}, but this program reads version {SCHEMA_VERSION}; "
            "rerun the pipeline into a new folder"
        )
    if "files" not in content:
        content["files"] = _read_files(folder, content.pop("files_sha256", None))
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        field = f"{'.'.join(map(str, fault['loc']))[:100]}: " if fault["loc"] else ""
        raise UserError(f"{url}: {field}{fault['msg'].removeprefix('Value error, ')}") from None


def _read_files(folder: str, sha256: object) -> FileTable:
    url = join(folder, FILES_FILE)
    try:
        files = FileTable.from_parquet(read_bytes(url))
    except FileNotFoundError:
        raise UserError(
            f"{url}: missing; remove the manifest and rerun the pipeline, which writes both again"
        ) from None
    except ValueError as error:
        raise UserError(f"{url}: {first_line(error)}; remove the manifest and rerun the pipeline") from None
    if files.sha256 != sha256:
        raise UserError(
            f"{url}: sha256 {files.sha256}, but the manifest says {str(sha256)[:64]}; it is from another run: remove the manifest "
            "and rerun the pipeline"
        )
    return files
