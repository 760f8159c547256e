"""Makes everything that training needs from the configuration and the predictions, and checks it before any step."""

import logging
from typing import Any

import torch

from schemas.compilers import check_compiler
from schemas.config import recorded
from schemas.errors import UserError, printable
from schemas.predictions import Predictions, open_predictions
from trainer.artifacts.checkpoint import latest_checkpoint, load_state
from trainer.artifacts.checkpoint_state import CheckpointState
from trainer.artifacts.early_stopping import EarlyStopping
from trainer.config import TrainerConfig
from trainer.data.reader import Reader
from trainer.data.stages import Stage, StagedReader, open_stages
from trainer.distributed import Runtime
from trainer.loop.continuation import check_continuation
from trainer.loop.evaluate import open_heldout
from trainer.loop.state import TrainState
from trainer.loop.step import make_learner, owned_tokens
from trainer.student.initialization import check_initialization, initialize
from trainer.student.model import (
    DistilledStudent,
    build_student,
    check_length,
    config_from_json,
    config_to_json,
    student_config,
)
from trainer.student.start import Start, find_start

logger = logging.getLogger(__name__)


def prepare(config: TrainerConfig, runtime: Runtime) -> TrainState:
    """Returns the run before its first step. If there is a checkpoint, the student's shape comes from it.

    Raises:
      UserError: the configuration does not fit the predictions, or the output folder belongs to another run.
    """
    if config.torch_compile:
        check_compiler(runtime.device.type)
    predictions, stages, heldout = runtime.from_main(lambda: _open(config))
    step = latest_checkpoint(config.output)
    checkpoint = load_state(config.output, step) if step else None
    micro_batches = _micro_batches(config, checkpoint, runtime)
    start = find_start(config.student, predictions) if checkpoint is None else None
    for stage in stages:
        _check_distillation(config, stage.predictions)
    if checkpoint is None:
        check_initialization(config.student, predictions, start)
    _check_sharing(micro_batches, runtime, is_new=checkpoint is None)
    run_spec = _run_spec(config, predictions, stages, micro_batches, runtime.dtype)
    if checkpoint:
        check_continuation(config, checkpoint.step, checkpoint.run_spec, run_spec)
    read = [stage.predictions for stage in stages] + ([heldout] if heldout else [])
    longest = max(of.max_length for of in read)
    student, configuration = _student(config, predictions, checkpoint, start, longest)
    lanes = range(runtime.rank, micro_batches, runtime.world_size)
    reader = StagedReader(stages, lambda stage: _reader(config, stage, micro_batches, lanes))
    is_by_teacher = config.distillation.normalize == "teacher"
    owned_TV = owned_tokens(predictions.vocabulary, reader.teachers) if is_by_teacher else None
    return TrainState(
        config=config,
        runtime=runtime,
        predictions=predictions,
        stages=stages,
        heldout=heldout,
        reader=reader,
        learner=make_learner(config, runtime, student, reader.languages, owned_TV),
        configuration=configuration,
        run_spec=run_spec,
        early_stopping=EarlyStopping(heldout.sha256 if heldout else None),
    )


def _open(config: TrainerConfig) -> tuple[Predictions, list[Stage], Predictions | None]:
    """Opens the predictions of the run, its stages and held-out text. Raises UserError if they do not fit."""
    predictions = open_predictions(*config.predictions)
    stages = open_stages(config, predictions)
    return predictions, stages, open_heldout(config.heldout, predictions) if config.heldout else None


def _micro_batches(config: TrainerConfig, checkpoint: CheckpointState | None, runtime: Runtime) -> int:
    """Returns how many a step has. A resumed run keeps its number, because the rows that it reads depend on it."""
    if config.micro_batches:
        return config.micro_batches
    return checkpoint.run_spec["micro_batches"] if checkpoint else runtime.world_size


def _reader(config: TrainerConfig, stage: Stage, lanes: int, local_lanes: range) -> Reader:
    return Reader(
        stage.predictions,
        stage.sampling,
        config.batch_tokens,
        stage.seed,
        top_k=stage.predictions.top_k if config.distillation.distils else 0,
        tail_samples=stage.predictions.manifests[0].tail_samples if config.distillation.reads_samples else 0,
        lanes=lanes,
        local_lanes=local_lanes,
        threads=config.reader_threads,
    )


def _run_spec(
    config: TrainerConfig, predictions: Predictions, stages: list[Stage], micro_batches: int, dtype: torch.dtype
) -> dict[str, Any]:
    """Everything that decides the weights, JSON values."""
    # Left out for a run without stages, so that records of runs from before this option stay the same.
    of_stages = [
        {"until": given.until, "alpha": stage.sampling.alpha, "manifest_sha256": stage.predictions.sha256}
        for given, stage in zip(config.stages, stages, strict=False)
    ]
    return {
        **({"stages": of_stages} if of_stages else {}),
        "vocabulary_sha256": predictions.vocabulary.sha256,
        "manifest_sha256": predictions.sha256,
        "precision_used": str(dtype),
        **recorded(config),
        "micro_batches": micro_batches,
    }


def _student(
    config: TrainerConfig,
    predictions: Predictions,
    checkpoint: CheckpointState | None,
    start: Start | None,
    longest: int,
) -> tuple[DistilledStudent, dict[str, Any]]:
    """Returns the student and its configuration as JSON values.

    If there is a checkpoint, the models that the student was made from are no longer needed, and its weights are loaded
    later.
    """
    if checkpoint:
        configuration = checkpoint.configuration
        check_length(shape := config_from_json(configuration), longest)
    else:
        shape = student_config(config.student, predictions.vocabulary, longest, start)
        configuration = config_to_json(shape)
    model = build_student(shape, config.seed)
    if checkpoint is None:
        for line in initialize(model, config.student, predictions, start):
            logger.info(printable(line))
    student = DistilledStudent(model)
    if config.gradient_checkpointing:
        student.checkpoint_gradients()
    if config.torch_compile:
        student.compile_kernels()
    return student, configuration


def _check_distillation(config: TrainerConfig, predictions: Predictions) -> None:
    """Raises UserError if the predictions lack what the distillation needs."""
    distillation = config.distillation
    if distillation.distils and not predictions.top_k:
        raise UserError(
            f"distillation.kd_weight is {distillation.kd_weight}, but {predictions.newest} was made with top_k: 0 "
            "and has no teacher predictions; set kd_weight to 0, or rerun the pipeline with a top_k above 0"
        )
    if distillation.reads_samples:
        _check_samples(predictions)
    if unknown := sorted(distillation.languages.keys() - set(predictions.language_names)):
        raise UserError(
            f"distillation.languages: unknown language {unknown[0]!r}; the predictions have: "
            + ", ".join(predictions.language_names)
        )


def _check_samples(predictions: Predictions) -> None:
    """Raises UserError if a folder lacks the samples of the tail, or has a different number of them than the first."""
    first = predictions.manifests[0].tail_samples
    for folder, manifest in zip(predictions.folders, predictions.manifests, strict=True):
        if not manifest.tail_samples:
            raise UserError(
                f"distillation.tail is sampled, but {folder} was made with tail_samples: 0; rerun the pipeline with "
                "tail_samples above 0, or choose another tail"
            )
        if manifest.tail_samples != first:
            raise UserError(
                f"{folder}: tail_samples is {manifest.tail_samples}, but in {predictions.folders[0]} it is {first}; "
                "with distillation.tail: sampled, all folders need the same"
            )


def _check_sharing(micro_batches: int, runtime: Runtime, is_new: bool) -> None:
    """Raises UserError if the processes cannot share the micro-batches of a step evenly."""
    if micro_batches % runtime.world_size:
        raise UserError(
            f"micro_batches ({micro_batches}) cannot be divided evenly among {runtime.world_size} processes; "
            + (f"make it a multiple of {runtime.world_size}, or " if is_new else "")
            + "start a different number of processes"
        )
