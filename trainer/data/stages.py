"""The stages of a run: which predictions are read from which step to which, and in which proportions."""

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
    """What is read until `last_step`, from the step after the stage before.

    Attributes:
      seed: of the order of the rows. The first stage has the run's.
    """

    last_step: int
    predictions: Predictions
    sampling: SamplingConfig
    seed: int


def open_stages(config: TrainerConfig, predictions: Predictions) -> list[Stage]:
    """The stages of a configuration, at least one; `predictions` are those of a stage that gives none.

    Raises:
      UserError: predictions of a stage cannot be opened, or do not fit the others.
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
    """UserError where indices into tokens, languages or teachers would not mean the same in both."""
    if ours.vocabulary.sha256 != base.vocabulary.sha256:
        raise UserError(
            f"{where} is over the vocabulary {ours.vocabulary.sha256}, {base.newest} over {base.vocabulary.sha256}; run the "
            "pipeline with the same teachers for all stages, and trim one of them, the others with --vocabulary-from"
        )
    for what, mine, theirs in (
        ("languages", ours.language_names, base.language_names),
        ("teachers", ours.teacher_names, base.teacher_names),
    ):
        if mine != theirs:
            raise UserError(
                f"{where} has the {what} {', '.join(mine)}, {base.newest} has {', '.join(theirs)}; stages need the same"
            )
    if not (ours.top_k and base.top_k):
        # Where only a tokenizer was run, that is all of the teacher that the fingerprint knows.
        return
    for name in ours.teacher_names:
        its, known = (of.teachers[name].fingerprint[:12] for of in (ours, base))
        if its != known:
            raise UserError(
                f"{where}: its teacher {name!r} is {its}, that of {base.newest} is {known}; run the pipeline with the same "
                "teachers for all stages"
            )


def _seed(seed: int, stage: int) -> int:
    """Another for each stage: or a stage that reads the same text would begin with the same rows as the one before."""
    if not stage:
        return seed
    return int(np.random.SeedSequence([seed, stage]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class StagedReader:
    """The steps of one stage after another: each has a reader of its own, which begins anew.

    There is one reader at a time, because what it has read ahead, and what it knows of row groups, takes memory.

    Args:
      make_reader: of a stage; all readers have the same languages, teachers and lanes.
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
            # It holds the reader.
            del batches

    def state(self) -> ReaderState:
        """The state of the reader that gave the last step."""
        return self._reader.state()

    def load_state(self, step: int, state: ReaderState) -> None:
        """Goes back to where `state`, of all lanes, was taken after `step`; call it before iterating."""
        self._step = step
        self._enter(stage_of(self._last_steps, step))
        self._reader.load_state(state)

    def close(self) -> None:
        """Stops reading ahead."""
        self._reader.close()

    def _enter(self, stage: int) -> None:
        """Puts a stage's reader in the place of the one that there is."""
        if stage != self._stage:
            self._reader.close()
            self._stage, self._reader = stage, self._make_reader(self._stages[stage])


def stage_of(last_steps: Sequence[int], step: int) -> int:
    """The index of the stage that has `step`; the first has step 0, too, and the last all that come after it."""
    return min(int(np.searchsorted(last_steps, step)), len(last_steps) - 1)
