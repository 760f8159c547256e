"""The state of a run in training, saved to and restored from checkpoints."""

from dataclasses import dataclass, replace
from typing import Any

from schemas.predictions import Predictions
from trainer.artifacts.checkpoint import CheckpointWriter, latest_checkpoint, load_checkpoint, load_state
from trainer.artifacts.checkpoint_state import CheckpointState
from trainer.artifacts.early_stopping import EarlyStopping
from trainer.config import TrainerConfig
from trainer.data.reader import merge_states
from trainer.data.stages import Stage, StagedReader, stage_of
from trainer.distributed import Runtime
from trainer.loop.due import due_after
from trainer.loop.step import Learner


@dataclass
class TrainState:
    """What a run reads, what it changes, and its progress.

    Attributes:
      stages: at least one, in order.
      configuration: the student's, JSON values (`trainer.student.model.config_to_json`).
      run_spec: everything that decides the weights, JSON values.
      early_stopping: what is remembered of the evaluations.
      step: the last step that was taken; 0 before the first.
      skipped_steps: how many steps were skipped.
    """

    config: TrainerConfig
    runtime: Runtime
    predictions: Predictions
    stages: list[Stage]
    heldout: Predictions | None
    reader: StagedReader
    learner: Learner
    configuration: dict[str, Any]
    run_spec: dict[str, Any]
    early_stopping: EarlyStopping
    step: int = 0
    skipped_steps: int = 0

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to train."""
        return self.step >= self.config.max_steps or self.early_stopping.has_run_out(
            self.config.early_stopping_patience
        )

    @property
    def stage(self) -> int:
        """The index of the stage of the last step that was taken."""
        return stage_of([stage.last_step for stage in self.stages], self.step)

    @property
    def lacks_evaluation(self) -> bool:
        """Whether an evaluation of the current student is due and was not yet made on this held-out text."""
        if not self.step or not self.heldout or self.early_stopping.step == self.step:
            return False
        return self.is_over or due_after(self.step, self.config).evaluate

    def resume(self) -> None:
        """Loads the newest checkpoint, if there is one. Raises UserError if it cannot be read."""
        output, learner = self.config.output, self.learner
        step = self.runtime.agree(latest_checkpoint(output) or 0, f"checkpoints in {output}")
        if not step:
            return
        load_checkpoint(output, step, learner.student.model, learner.optimizer)
        checkpoint = load_state(output, step)
        learner.scheduler.load_state_dict(checkpoint.scheduler)
        for group, rate in zip(learner.optimizer.param_groups, learner.scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
        self.reader.load_state(step, checkpoint.reader)
        self.step, self.skipped_steps = step, checkpoint.skipped_steps
        # Figures on different held-out text are not comparable.
        if checkpoint.early_stopping.heldout_sha256 == self.early_stopping.heldout_sha256:
            self.early_stopping = checkpoint.early_stopping

    def save(self, checkpoints: CheckpointWriter) -> None:
        """Starts writing a checkpoint of all processes' state."""
        readers = self.runtime.gather(self.reader.state())
        state = CheckpointState(
            step=self.step,
            run_spec=self.run_spec,
            configuration=self.configuration,
            reader=merge_states(readers),
            scheduler=self.learner.scheduler.state_dict(),
            skipped_steps=self.skipped_steps,
            # A copy, because another thread writes it to disk.
            early_stopping=replace(self.early_stopping),
        )
        best_step = self.early_stopping.best_step
        checkpoints.save(self.step, self.learner.student.model, self.learner.optimizer, state, best_step)
