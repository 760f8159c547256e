"""Checks, before any model runs, that a model can run the jobs it is scored on."""

from collections.abc import Sequence

from schemas.errors import UserError
from trainer.evaluation.models import Model
from trainer.evaluation.pieces import special_frame
from trainer.evaluation.tasks.task import Job, Task


def check_model(model: Model, jobs: Sequence[tuple[Job, Task]]) -> None:
    """Loads a model's configuration and tokenizers, and reads the headers of its weights.

    Raises:
      UserError: one of them cannot be loaded, weights are missing, or a tokenizer lacks what a task needs.
    """
    model.transformers_config  # noqa: B018, raises if it cannot be loaded
    for auto_class, head in dict.fromkeys((task.auto_class, tuple(task.head.items())) for _, task in jobs):
        if auto_class:
            model.check_weights(auto_class, **dict(head))
    for needing, language in dict.fromkeys((task, language) for job, task in jobs for language in task.languages(job)):
        _check_tokenizer(model, needing, language)


def _check_tokenizer(model: Model, task: Task, language: str) -> None:
    tokenizer = model.tokenizer(language)
    lacking = [
        kind
        for kind, is_needed, token_id in (
            ("mask", task.needs_mask_token, tokenizer.mask_token_id),
            ("padding", task.needs_pad_token, tokenizer.pad_token_id),
        )
        if is_needed and token_id is None
    ]
    if lacking:
        raise UserError(
            f"models.{model.name}: its tokenizer has no {lacking[0]} token, which {task.title} needs; give a masked language "
            "model, or leave this one out"
        )
    if task.cuts_text:
        special_frame(tokenizer)
    limit = min(task.max_length, model.max_length)
    needed = max(task.shortest, tokenizer.num_special_tokens_to_add() + 1)
    if limit < needed:
        raise UserError(
            f"models.{model.name}: reads only {limit} tokens at a time, but {task.title} needs at least {needed}; if the limit "
            "is wrong, correct model_max_length in its tokenizer_config.json, else leave the model out"
        )
