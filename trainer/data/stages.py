"""The stages of a run: which predictions each range of steps reads, and in which proportions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.errors import UserError
from schemas.predictions import Predictions, open_predictions
from trainer.config import SamplingConfig, TrainerConfig
from trainer.data.batches import Batch
from trainer.data.reader import Reader, ReaderState


@dataclass(frozen=True)
class Stage:
    """What a run reads from the end of the previous stage until `last_step`.

    Attributes:
      seed: for the order of the rows. The first stage has the run's seed.
    """

    last_step: int
    predictions: Predictions
    sampling: SamplingConfig
    seed: int


def open_stages(config: TrainerConfig, predictions: Predictions) -> list[Stage]:
    """Returns the stages of a configuration, at least one. A stage without predictions of its own reads `predictions`.

    Raises:
      UserError: a stage's predictions cannot be opened, or do not fit the others.
    """
    if not config.stages:
        return [Stage(config.max_steps, predictions, config.sampling, config.seed)]
    stages = []
    for number, (given, last_step) in enumerate(zip(config.stages, config.last_steps, strict=True)):
        opened = open_predictions(*given.predictions) if given.predictions else predictions
        _check_fit(f"stages: {opened.newest}", opened, predictions)
        alpha = config.sampling.alpha if given.alpha is None else given.alpha
        sampling = config.sampling.model_copy(update={"alpha": alpha})
        stages.append(Stage(last_step, opened, sampling, _seed(config.seed, number)))
    return stages


def _check_fit(where: str, ours: Predictions, base: Predictions) -> None:
    """Raises UserError if indices of tokens, languages or teachers would differ in meaning."""
    if ours.vocabulary.sha256 != base.vocabulary.sha256:
        raise UserError(
            f"{where} has the vocabulary {ours.vocabulary.sha256}, but {base.newest} has {base.vocabulary.sha256}; run the "
            "pipeline with the same teachers for all stages; if you trim, trim the others with --vocabulary-from the first trimmed folder"
        )
    for what, mine, theirs in (
        ("languages", ours.language_names, base.language_names),
        ("teachers", ours.teacher_names, base.teacher_names),
    ):
        if mine != theirs:
            raise UserError(
                f"{where} has the {what} {', '.join(mine)}, but {base.newest} has {', '.join(theirs)}; all stages need the same"
            )
    if not (ours.top_k and base.top_k):
        # If only a tokenizer ran, the fingerprint covers nothing else of the teacher.
        return
    for name in ours.teacher_names:
        its, known = (of.teachers[name].fingerprint[:12] for of in (ours, base))
        if its != known:
            raise UserError(
                f"{where}: its teacher {name!r} has fingerprint {its}, but in {base.newest} {known}; run the pipeline with "
                "the same teachers for all stages"
            )


def _seed(seed: int, stage: int) -> int:
    """Returns a different seed per stage; otherwise stages on the same text would begin with the same rows."""
    if not stage:
        return seed
    return int(np.random.SeedSequence([seed, stage]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class StagedReader:
    """Iterates over the steps of all stages. Each stage has its own new reader.

    There is only one reader at a time, because its read-ahead data and its knowledge of row groups take memory.

    Args:
      make_reader: makes a stage's reader; all readers have the same languages, teachers and lanes.
    """

    def __init__(self, stages: Sequence[Stage], make_reader: Callable[[Stage], Reader]):
        self._stages = stages
        self._make_reader = make_reader
        self._last_steps = [stage.last_step for stage in stages]
        self._step = self._stage = 0
        self._reader = make_reader(stages[0])
        self.languages = self._reader.languages
        self.teachers = self._reader.teachers
        self.local_lanes = self._reader.local_lanes

    def __iter__(self) -> Iterator[list[Batch]]:
        for stage in range(self._stage, len(self._stages)):
            self._enter(stage)
            batches = iter(self._reader)
            while self._step < self._last_steps[stage]:
                self._step += 1
                yield next(batches)
            # The iterator keeps the reader alive.
            del batches

    def state(self) -> ReaderState:
        """The state of the reader that returned the last step."""
        return self._reader.state()

    def load_state(self, step: int, state: ReaderState) -> None:
        """Goes to the point after `step` where `state`, of all lanes, was taken; call it before iterating."""
        self._step = step
        self._enter(stage_of(self._last_steps, step))
        self._reader.load_state(state)

    def close(self) -> None:
        """Stops reading ahead."""
        self._reader.close()

    def _enter(self, stage: int) -> None:
        """Replaces the current reader by that of a stage."""
        if stage != self._stage:
            self._reader.close()
            self._stage, self._reader = stage, self._make_reader(self._stages[stage])


def stage_of(last_steps: Sequence[int], step: int) -> int:
    """The index of the stage of `step`. The first stage also has step 0, and the last one all steps after it."""
    return min(int(np.searchsorted(last_steps, step)), len(last_steps) - 1)
