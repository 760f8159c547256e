"""Initializes a student from its teachers' weights, or an earlier student's, instead of random ones."""

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForMaskedLM, PreTrainedModel

from schemas.errors import UserError
from schemas.loading import lacking, loading_error, weights_arguments
from schemas.predictions import Predictions
from trainer.config import StudentConfig
from trainer.student.encoder import copy_encoder
from trainer.student.start import Start
from trainer.student.token_rows import TokenRows


def check_initialization(config: StudentConfig, predictions: Predictions, start: Start | None = None) -> None:
    """Checks what can be checked without loading a model. Raises UserError."""
    teachers = predictions.teachers
    if config.encoder_from is not None and config.encoder_from not in teachers:
        raise UserError(
            f"student.encoder_from: there is no teacher {config.encoder_from!r}; the predictions have: "
            + ", ".join(sorted(teachers))
        )
    needed = _needed(config, predictions, start)
    if start and start.name in teachers:
        needed.append(start.name)
    for name in needed:
        # A folder's path may look like a hub id, where transformers would find a stranger's model.
        model = teachers[name].model
        if model not in predictions.hub_models and not Path(model).is_dir():
            raise UserError(
                f"teacher {name!r}: the predictions' manifest says that it is in the folder {model}, which does not exist "
                "on this machine; put it there, or leave out the fields that need its weights (student.encoder_from, "
                "student.embeddings_from_teachers, student.start_from)"
            )


def initialize(
    student: PreTrainedModel, config: StudentConfig, predictions: Predictions, start: Start | None = None
) -> list[str]:
    """Overwrites weights of the student with those of teachers or of `start`. Only one of these is in memory at a time.

    Other weights do not change. Nothing is random: the result depends only on the arguments and the copied weights.

    Args:
      student: over the merged vocabulary of `predictions`, on the CPU. If there is a `start`, it has the same shape.

    Returns:
      Lines that describe the sources of the weights.

    Raises:
      UserError: a model cannot be loaded, or does not fit.
    """
    takes_rows = config.embeddings_from_teachers or start
    rows = TokenRows(student, predictions.vocabulary, config.token_alignment) if takes_rows else None
    needed = _needed(config, predictions, start)
    # Without a start, the other teachers are mapped into the space of the first.
    anchor = needed[0] if config.token_alignment != "none" and needed and not start else None
    teachers = predictions.teachers
    lines = []
    if start and rows:
        model = _load_model(f"student.start_from: {start.name}", start.model, start.revision, start.tokens)
        lines.append(copy_encoder(student, model, start.name))
        rows.settle(start.name, model, torch.from_numpy(start.rows_V).long())
        del model
    for name in needed:
        record = teachers[name]
        where = f"teacher {name!r} ({record.model})"
        teacher = _load_model(where, record.model, record.revision, record.vocabulary_size)
        if name == config.encoder_from:
            lines.append(copy_encoder(student, teacher, name))
        if rows and name == anchor:
            rows.settle_teacher(name, teacher)
        elif rows:
            rows.add(name, teacher)
        # Free its memory before the next one is loaded.
        del teacher
    return lines + (rows.finish() if rows else [])


def _needed(config: StudentConfig, predictions: Predictions, start: Start | None) -> list[str]:
    """The teachers to load; that of the encoder comes first, because it is most likely not to fit.

    With an alignment and no encoder, the first one is the first in the predictions.
    """
    wanted = {config.encoder_from} if config.encoder_from is not None else set()
    if config.embeddings_from_teachers:
        is_open_V = start.rows_V < 0 if start else np.ones(len(predictions.vocabulary), bool)
        owners = {name for name, ids in predictions.vocabulary.teacher_ids.items() if (is_open_V & (ids >= 0)).any()}
        wanted |= predictions.teachers.keys() & owners
    first = config.encoder_from
    if first is None and config.token_alignment != "none":
        first = next((name for name in predictions.teachers if name in wanted), None)
    return sorted(wanted, key=lambda name: (name != first, name))


def _load_model(where: str, model: str, revision: str | None, tokens: int) -> PreTrainedModel:
    """Loads a masked LM in float32 on the CPU, from safetensors, without running code that comes with it.

    Raises:
      UserError: it cannot be loaded, or has fewer rows than `tokens`.
    """
    try:
        # Loading may use random numbers, which must not change those of the run.
        with torch.random.fork_rng(devices=[]):
            loaded, report = AutoModelForMaskedLM.from_pretrained(
                model, trust_remote_code=False, dtype=torch.float32, **weights_arguments(revision)
            )
    except Exception as error:  # A library may raise anything for a folder.
        if "trust_remote_code" in str(error):
            raise UserError(
                f"{where}: its model needs its own Python code, which the trainer never runs; leave out the fields that "
                "need its weights (student.encoder_from, student.embeddings_from_teachers, student.start_from)"
            ) from None
        raise UserError(f"{where}: its model cannot be loaded: {loading_error(error, model)}") from None
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"{where}: {lacking(missing)}; use a complete checkpoint")
    rows = loaded.get_input_embeddings().num_embeddings
    if rows < tokens:
        raise UserError(
            f"{where}: its embedding has {rows} rows, but its vocabulary has {tokens} tokens; restore the model "
            "that made the predictions"
        )
    return loaded
