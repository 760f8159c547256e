"""Describes what determines a run's rows, and checks which run an output folder belongs to."""

import hashlib
import json
from functools import cached_property
from typing import Any

import torch
from pydantic import BaseModel

from pipeline.config import PipelineConfig, TeacherConfig
from pipeline.teachers.mixture import mixture_fingerprint
from pipeline.teachers.model import check_model, load_model, teacher_fingerprint
from pipeline.teachers.predictor import Predictor, named_device, try_forward, usable_device
from pipeline.teachers.tokenizer import TeacherTokenizer
from pipeline.text.corpus import Corpus
from pipeline.text.listing import content_digest, names_digest
from pipeline.text.units import divide_language
from schemas.config import recorded
from schemas.errors import UserError, differences
from schemas.manifest import MANIFEST_FILE, RUN_FILE, MixedModelRecord, TeacherRecord, VocabularyRecord
from schemas.secrets import without_secrets
from schemas.storage import create_bytes, join, list_files, read_bytes, write_bytes
from schemas.vocabulary import Vocabulary


class TextRecord(BaseModel, frozen=True):
    """The text of a language: the sha256 of its files' names and sizes, and of the fingerprints of their content."""

    files: str
    content: str

    @classmethod
    def of(cls, corpus: Corpus) -> "TextRecord":
        """Makes the record from a surveyed corpus."""
        return cls(files=names_digest(corpus.files), content=content_digest(corpus))


class RunSpec(BaseModel, frozen=True):
    """Everything that determines the rows. Two runs into one folder must agree on it.

    `settings` are the configuration's fields that matter; `text` identifies the files of each language.
    """

    settings: dict
    teachers: dict[str, TeacherRecord]
    vocabulary: VocabularyRecord
    text: dict[str, TextRecord]

    @cached_property
    def sha256(self) -> str:
        """The run's fingerprint: the sha256 of all fields, independent of the order of the configuration's fields.

        It leaves out the fingerprints of the text's content, because each storage computes them differently. So a text
        gives the same output bytes wherever it is stored.
        """
        content = self.model_dump(mode="json", exclude={"text": {"__all__": {"content"}}})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def settings_of(config: PipelineConfig) -> dict[str, Any]:
    """Returns the configuration's fields that determine the rows, as JSON values."""
    settings = recorded(config)
    settings["dtype"] = {name: teacher.dtype for name, teacher in config.teachers.items()}
    settings["text"] = {
        language: part.model_dump(mode="json", exclude={"files"}) for language, part in config.text.items()
    }
    # Left out when no language is divided, so that fingerprints of existing runs do not change.
    divided = {language: divide_language(config, language) for language in config.text}
    if any(divided.values()):
        settings["shares"] = {
            language: {name: [share.low, share.high] for name, share in shares.items()}
            for language, shares in divided.items()
            if shares
        }
    return settings


def describe_run(
    config: PipelineConfig,
    tokenizers: dict[str, TeacherTokenizer],
    vocabulary: Vocabulary,
    corpora: dict[str, Corpus],
    fingerprints: dict[str, str],
) -> RunSpec:
    """Describes a run; `fingerprints` are the teachers'."""
    return RunSpec(
        settings=settings_of(config),
        teachers={
            name: _describe_teacher(config.teachers[name], tokenizer, fingerprints[name])
            for name, tokenizer in tokenizers.items()
        },
        vocabulary=VocabularyRecord(size=len(vocabulary), sha256=vocabulary.sha256),
        text={language: TextRecord.of(corpus) for language, corpus in corpora.items()},
    )


def _describe_teacher(teacher: TeacherConfig, tokenizer: TeacherTokenizer, fingerprint: str) -> TeacherRecord:
    return TeacherRecord(
        model=without_secrets(teacher.model),
        revision=teacher.revision,
        mixed_with=[
            MixedModelRecord(model=without_secrets(part.model), revision=part.revision, weight=part.weight)
            for part in teacher.mixed_with
        ],
        family=tokenizer.family,
        languages=list(teacher.languages),
        vocabulary_size=len(tokenizer.tokens),
        fingerprint=fingerprint,
    )


def check_devices(config: PipelineConfig, predicts_here: bool) -> None:
    """Raises UserError if a teacher's device is unknown, or cannot be used though this process predicts."""
    for name, teacher in config.teachers.items() if config.top_k else ():
        (usable_device if predicts_here else named_device)(name, teacher)


def try_models(name: str, config: PipelineConfig, tokenizer: TeacherTokenizer, predicts_here: bool) -> str:
    """Loads and checks each of a teacher's models, unless `top_k` is 0, and returns the teacher's fingerprint.

    Raises UserError like `pipeline.teachers.model`.

    Args:
      predicts_here: whether to try them with the teacher's device and precision too.
    """
    teacher = config.teachers[name]
    parts = teacher.parts if config.top_k else []
    fingerprints = [_try_model(name, part, config, tokenizer, predicts_here) for part in parts]
    return mixture_fingerprint(fingerprints, teacher.weights) if parts else tokenizer.fingerprint


def _try_model(
    name: str, part: TeacherConfig, config: PipelineConfig, tokenizer: TeacherTokenizer, predicts_here: bool
) -> str:
    """Loads and checks one model, and returns its fingerprint. The model is freed when this returns."""
    model = load_model(name, part)
    check_model(tokenizer, model, config.top_k, config.max_length, config.tail_samples)
    # Before the model is moved and rounded.
    fingerprint = teacher_fingerprint(tokenizer, model)
    if predicts_here:
        Predictor(model, tokenizer, part, config.top_k, max_length=config.max_length)
    else:
        try_forward(model.eval(), tokenizer, torch.device("cpu"), config.max_length).close()
    return fingerprint


def claim_output(output: str, run: RunSpec) -> None:
    """Marks the folder as this run's. Raises UserError, which says what differs, if it holds another run.

    If two runs claim an empty folder at once, only one of them gets it.
    """
    if check_output(output, run):
        return
    claim = run.model_dump_json(indent=2).encode() + b"\n"
    if not create_bytes(join(output, RUN_FILE), claim) and not check_output(output, run):
        # A killed process left a partial claim: its storage cannot write a file atomically.
        write_bytes(join(output, RUN_FILE), claim)


def check_output(output: str, run: RunSpec) -> bool:
    """Whether the folder is already this run's. Raises UserError if it holds another run, or a manifest but no run."""
    try:
        claimed = json.loads(read_bytes(join(output, RUN_FILE)))
    except FileNotFoundError:
        if MANIFEST_FILE in list_files(output):
            raise UserError(
                f"{output}: holds predictions that another command wrote (perhaps `trim`); choose another output"
            ) from None
        return False
    except ValueError:
        # A process was killed while it wrote the file, before it did anything else.
        return False
    if changed := differences(claimed, json.loads(run.model_dump_json())):
        raise UserError(f"{output}: holds another run ({changed}); remove the folder or choose another output")
    return True
