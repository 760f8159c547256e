"""Fine-tuning with transformers' `Trainer`, the same for all tasks and models."""

import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from schemas.errors import UserError
from trainer.evaluation.config import FineTuningConfig
from trainer.evaluation.models import Model

# The share of the steps in which the learning rate rises linearly; then it falls linearly to 0.
_WARM_UP = 0.1


class _Bar(ProgressCallback):
    """The progress bar without log lines."""

    def on_log(self, *_args: Any, **_others: Any) -> None:
        """Prints nothing."""


def fine_tune(
    model: Model,
    auto_class: Any,
    examples: list[dict[str, Any]],
    collator: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    config: FineTuningConfig,
    seed: int,
    head: Mapping[str, Any],
) -> PreTrainedModel:
    """Returns a fine-tuned copy of a model in evaluation mode, with a new head.

    The same arguments give the same weights on the same machine. Nothing is evaluated or written during training.

    Args:
      auto_class: such as `AutoModelForTokenClassification`.
      examples: model inputs as lists, and labels.
      collator: makes a padded batch of some examples.
      head: settings of the new head, as in `Task.head`.

    Raises:
      UserError: the model cannot be loaded with such a head, or the training diverged.
    """
    set_seed(seed)
    tuned = model.with_head(auto_class, **head)
    with tempfile.TemporaryDirectory() as scratch, _deterministic():
        arguments = TrainingArguments(
            output_dir=scratch,
            learning_rate=config.learning_rate,
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch_size,
            warmup_steps=_WARM_UP,
            train_sampling_strategy="group_by_length",
            seed=seed,
            use_cpu=model.device.type == "cpu",
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            save_strategy="no",
            logging_strategy="no",
            # Otherwise steps whose loss is NaN are left out of the loss that the trainer returns.
            logging_nan_inf_filter=False,
            report_to="none",
            disable_tqdm=True,
        )
        # Use one GPU at most, so that the batch size does not depend on the machine.
        arguments._n_gpu = min(arguments.n_gpu, 1)
        trainer = Trainer(tuned, arguments, data_collator=collator, train_dataset=examples)
        trainer.remove_callback(PrinterCallback)
        if sys.stderr.isatty():
            trainer.add_callback(_Bar)
        loss = trainer.train().training_loss
    if not (math.isfinite(loss) and all(torch.isfinite(weight).all() for weight in tuned.parameters())):
        raise UserError(
            f"fine_tuning: that of models.{model.name} diverged to NaN or infinite values; lower fine_tuning.learning_rate"
        )
    tuned.to(model.device)  # type: ignore[arg-type]
    return tuned.eval()


@contextmanager
def _deterministic() -> Iterator[None]:
    """Makes torch use deterministic algorithms."""
    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
