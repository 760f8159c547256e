"""A student that starts from its teachers' weights instead of random ones."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForMaskedLM, PreTrainedModel

from schemas.errors import UserError, first_line
from schemas.manifest import Predictions, TeacherRecord
from trainer.config import StudentConfig
from trainer.encoder_copy import copy_encoder
from trainer.token_average import TokenAverage


def check_initialization(config: StudentConfig, predictions: Predictions) -> None:
    """What can be known without loading a teacher. UserError."""
    teachers = predictions.teachers
    if config.encoder_from is not None and config.encoder_from not in teachers:
        raise UserError(
            f"student.encoder_from: there is no teacher {config.encoder_from!r}; the predictions have: "
            + ", ".join(sorted(teachers))
        )
    for name in _needed(config, predictions):
        # A hub id is never written like this, and transformers would look for it there all the same.
        model = teachers[name].model
        if model.startswith(("/", "./", "../", "~")) and not Path(model).is_dir():
            raise UserError(
                f"teacher {name!r}: there is no folder {model} on this machine, where the predictions' manifest says "
                "that it lies; put it there, or leave out student.encoder_from and student.embeddings_from_teachers"
            )


def initialize(student: PreTrainedModel, config: StudentConfig, predictions: Predictions) -> list[str]:
    """Overwrites weights of the student with those of teachers, one of which is in memory at a time.

    What no teacher gives stays as it is. Nothing is drawn at random, and the result depends on the
    arguments and the teachers' weights alone.

    Args:
      student: over the merged vocabulary of `predictions`, on the CPU.

    Returns:
      Lines to print: what came from where.

    Raises:
      UserError: a teacher cannot be loaded, or does not fit.
    """
    average = TokenAverage(student, predictions.vocabulary) if config.embeddings_from_teachers else None
    teachers = predictions.teachers
    lines = []
    for name in _needed(config, predictions):
        teacher = _load_teacher(name, teachers[name])
        if name == config.encoder_from:
            lines.append(copy_encoder(student, teacher, name))
        if average:
            average.add(name, teacher)
        # Gone before the next one is loaded.
        del teacher
    return lines + (average.finish() if average else [])


def _needed(config: StudentConfig, predictions: Predictions) -> list[str]:
    """The teachers to load, that of the encoder first: it is the likeliest not to fit."""
    wanted = {config.encoder_from} if config.encoder_from is not None else set()
    if config.embeddings_from_teachers:
        wanted |= predictions.teachers.keys() & predictions.vocabulary.teacher_ids.keys()
    return sorted(wanted, key=lambda name: (name != config.encoder_from, name))


def _load_teacher(name: str, record: TeacherRecord) -> PreTrainedModel:
    """A teacher in float32 on the CPU, from safetensors, running no code of its own. UserError where it cannot be."""
    where = f"teacher {name!r} ({record.model})"
    try:
        # Loading may draw random numbers, which must not change those of the run.
        with torch.random.fork_rng(devices=[]):
            model, report = AutoModelForMaskedLM.from_pretrained(
                record.model,
                # Named, since only then does transformers find the hub's own safetensors
                # conversion of a repository that has none.
                revision=record.revision or "main",
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{where}: its model cannot be loaded: {first_line(error)}") from None
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"{where}: its weights lack {missing[0]} (and {len(missing) - 1} more)")
    rows = model.get_input_embeddings().num_embeddings
    if rows < record.vocabulary_size:
        raise UserError(
            f"{where}: its embedding has {rows} rows, but by the predictions' manifest it has "
            f"{record.vocabulary_size} tokens; put back the teacher that made them"
        )
    return model
