"""What a run does, and how a later call recognizes it without checking everything again.

The result of the checks at the start depends on the settings, the teachers' files, the program and the text. The sha256
of the first three names a file in `_checked/`, which holds the fingerprint of the run that they gave. The listings in
`_text/` describe the text. If all of them are unchanged, the run in `_run.json` is still valid.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from importlib.metadata import version

from pipeline.config import PipelineConfig
from pipeline.job.fingerprint import RunSpec, TextRecord, settings_of
from pipeline.teachers.files import files_of
from pipeline.text.corpus import Corpus
from pipeline.text.listing import read_corpus
from pipeline.text.units import TeacherText, Unit
from schemas import SCHEMA_VERSION, __version__
from schemas.errors import UserError
from schemas.manifest import RUN_FILE, read_manifest
from schemas.storage import join, read_bytes, write_bytes
from schemas.vocabulary import VOCABULARY_FILE, read_vocabulary

CHECKED_FOLDER = "_checked"
# How a teacher is read depends on these libraries as well as on its files.
_LIBRARIES = ("safetensors", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
      run: everything that determines its rows.
      corpora: the text of each language, with the survey of its files.
      texts: the text that each teacher reads in each language.
    """

    run: RunSpec
    corpora: dict[str, Corpus]
    texts: list[TeacherText]

    @property
    def units(self) -> list[Unit]:
        """All units of work, in order."""
        return [unit for text in self.texts for unit in text.units]


def divide_text(config: PipelineConfig, corpora: dict[str, Corpus]) -> list[TeacherText]:
    """Returns the text that each teacher reads in each language, in the order of the teachers."""
    return [
        TeacherText.of(language, name, corpora[language], config)
        for name, teacher in config.teachers.items()
        for language in teacher.languages
    ]


def inputs_sha256(config: PipelineConfig) -> str | None:
    """Returns the sha256 of everything but the text that the checks at the start depend on.

    None if file listings cannot tell whether the teachers changed. Raises UserError if the folder that the run extends
    is not finished.
    """
    # Excludes where the teachers' workers run, and on what machines.
    unchecked = {"device", "min_ram", "accelerator"}
    teachers = [
        [name, teacher.model_dump(mode="json", exclude=unchecked), files_of(teacher)]
        for name, teacher in config.teachers.items()
    ]
    extended = read_manifest(config.extends) if config.extends else None
    if any(files is None for _, _, files in teachers):
        return None
    content = {
        "program": [__version__, SCHEMA_VERSION, *map(version, _LIBRARIES)],
        "settings": settings_of(config) | {"max_rejected": config.max_rejected},
        "teachers": teachers,
        "extends": extended and [extended.run_sha256, extended.vocabulary.sha256],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def remember(config: PipelineConfig, inputs: str | None, run: RunSpec) -> None:
    """Records that these inputs gave a run that was checked and begun."""
    if inputs:
        write_bytes(join(config.output, CHECKED_FOLDER, inputs), f"{run.sha256}\n".encode())


def recall(config: PipelineConfig, listed: dict[str, Corpus], inputs: str | None) -> Plan | None:
    """Returns the plan of a run begun with these inputs and this text; None if there is none, or some of it is lost."""
    if not inputs:
        return None
    try:
        noted = read_bytes(join(config.output, CHECKED_FOLDER, inputs)).decode().strip()
        run = RunSpec.model_validate_json(read_bytes(join(config.output, RUN_FILE)))
        if run.sha256 != noted:
            return None
        corpora = {language: _recall_corpus(config, language, corpus) for language, corpus in listed.items()}
        vocabulary = read_vocabulary(join(config.output, VOCABULARY_FILE))
    except (FileNotFoundError, UserError, ValueError):
        return None
    text = {language: TextRecord.of(corpus) for language, corpus in corpora.items()}
    if text != run.text or vocabulary.sha256 != run.vocabulary.sha256:
        return None
    return Plan(run, corpora, divide_text(config, corpora))


def _recall_corpus(config: PipelineConfig, language: str, listed: Corpus) -> Corpus:
    """Returns the found corpus with the survey in its listing.

    Raises ValueError if the listing is of other files, or lacks record counts that are needed.
    """
    known = read_corpus(config, language, listed.files)
    if [replace(file, checksum="") for file in listed.files] != list(known.files):
        raise ValueError("other files")
    if known.counts is None and config.text[language].max_records is not None:
        raise ValueError("not counted")
    return listed.surveyed(known.fingerprints, known.counts)
