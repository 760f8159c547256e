"""The part of a checkpoint that is not tensors: `state.json`."""

from dataclasses import asdict, dataclass
from typing import Any

from schemas.errors import UserError
from trainer.artifacts.early_stopping import EarlyStopping
from trainer.data.reader import ReaderState

VERSION = 1


@dataclass(frozen=True)
class CheckpointState:
    """What a run needs to resume from a checkpoint, apart from weights and moments.

    Attributes:
      step: the step after which the checkpoint was made.
      run_spec: everything that decides the weights, JSON values.
      configuration: the student's, `trainer.student.model.config_to_json`.
      reader: the state of the lanes of all processes.
      scheduler: the state of the learning rate's schedule.
      skipped_steps: how many steps were skipped so far.
      early_stopping: what the run remembers of its evaluations.
    """

    step: int
    run_spec: dict[str, Any]
    configuration: dict[str, Any]
    reader: ReaderState
    scheduler: dict[str, Any]
    skipped_steps: int
    early_stopping: EarlyStopping

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values, with the format's version."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "CheckpointState":
        """Undoes `to_json`.

        Raises:
          UserError: the version differs.
          ValueError: these are not the fields of a state.
        """
        try:
            version = fields.pop("version", None)
            if version != VERSION:
                raise UserError(
                    f"the checkpoint's state has version {version}, but this program reads {VERSION}; finish the run with the "
                    "version that began it"
                )
            return cls(**fields | {"early_stopping": EarlyStopping(**fields["early_stopping"])})
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"its fields are not those of a checkpoint's state: {error}") from None
