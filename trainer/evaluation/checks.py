"""Checks, before any model runs, that a model can run the jobs it is scored on."""

import logging
from collections.abc import Iterable, Sequence

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from schemas.errors import UserError, printable
from schemas.model_sizes import embedding_rows
from trainer.evaluation.models import Model
from trainer.evaluation.pieces import special_frame
from trainer.evaluation.tasks.forward import encode, gives_hidden_states
from trainer.evaluation.tasks.task import Job, Task

logger = logging.getLogger(__name__)


def check_model(model: Model, jobs: Sequence[tuple[Job, Task]]) -> None:
    """Loads a model's configuration and tokenizers, and reads the headers of its weights.

    Raises:
      UserError: one of them cannot be loaded, weights are missing, the model or a tokenizer lacks what a task needs, or a
        student has no tokenizer for a language in which it is compared with a teacher.
    """
    model.transformers_config  # noqa: B018, raises if it cannot be loaded
    _check_languages(model, dict.fromkeys(language for job, task in jobs for language in task.languages(job)))
    heads = dict.fromkeys((task.auto_class, tuple(task.head.items())) for _, task in jobs if task.auto_class)
    without_values = {auto_class: model.without_values(auto_class, **dict(head)) for auto_class, head in heads}
    for needing, language in dict.fromkeys((task, language) for job, task in jobs for language in task.languages(job)):
        _check_tokenizer(model, needing, language)
        if needing.needs_hidden_states:
            _check_hidden_states(model, needing, language, without_values[needing.auto_class])
        if needing.auto_class is AutoModelForSequenceClassification:
            _check_end_token(model, needing, language)
    rows = [embedding_rows(part) for part in without_values.values()]
    for language in dict.fromkeys(language for job, task in jobs for language in task.languages(job) if rows):
        _check_ids(model, language, min(rows))


def check_candidate(model: Model) -> None:
    """Raises UserError if a candidate is scored with other tokenizers than the pipeline reads it with as a teacher."""
    if model.tokenizer_languages:
        raise UserError(
            f"models.{model.name}.tokenizer: the pipeline reads a teacher with its default tokenizer, but the model would be "
            "ranked with those of its languages; set `tokenizer: default`, or leave the model out of comparison.candidates"
        )


def _check_languages(model: Model, languages: Iterable[str]) -> None:
    """Warns of languages that a student has no tokenizer for, or raises UserError if one of them has a teacher."""
    missing = model.read_with_default(languages)
    if not missing:
        return
    known = printable(", ".join(model.tokenizer_languages))
    if with_teacher := [language for language in missing if language in model.teachers]:
        raise UserError(
            f"models.{model.name}.teachers.{with_teacher[0]}: the model has no tokenizer for {with_teacher[0]!r}, so it would "
            f"not be read as its teacher is; its languages are {known}. Name the language as the model does, in all sections, "
            "or set `tokenizer: default`"
        )
    logger.warning(
        f"models.{model.name}: has no tokenizer for {', '.join(missing)}, and reads that text with its default tokenizer; its "
        f"languages are {known}"
    )


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


def _check_ids(model: Model, language: str, rows: int) -> None:
    """Raises UserError if the tokenizer can give an id for which the embedding has no row."""
    tokenizer = model.tokenizer(language)
    tokens = {token_id: token for token, token_id in tokenizer.get_vocab().items()}
    beyond = sorted(token_id for token_id in {*tokens, *tokenizer("a")["input_ids"]} if token_id >= rows)
    if not beyond:
        return
    added = tokenizer.added_tokens_decoder
    is_added = all(token_id in added and not added[token_id].special for token_id in beyond)
    raise UserError(
        f"models.{model.name}: its tokenizer gives the id {beyond[0]} for {tokens.get(beyond[0], 'a special token')!r}, but "
        f"its embedding has {rows} rows; "
        + ("remove this added token from the tokenizer" if is_added else "give the model's own tokenizer")
    )


def _check_hidden_states(model: Model, task: Task, language: str, without_values: PreTrainedModel) -> None:
    """Raises UserError if the encoder does not give a hidden state for each token, as far as shapes tell.

    Many architectures read values, so they cannot run on shapes alone; then `forward_by_length` finds out.
    """
    shape = (2, 8)
    names = encode(model, model.tokenizer(language), "a", truncation=False)
    batch = {name: torch.zeros(shape, dtype=torch.int64, device="meta") for name in names}
    gives = not model.transformers_config.is_encoder_decoder
    if gives:
        try:
            with torch.inference_mode():
                output = without_values.base_model(**batch, output_hidden_states=True)
            gives = gives_hidden_states(output, *shape)
        except RuntimeError:
            pass
        except Exception:  # The encoder needs other inputs.
            gives = False
    if not gives:
        raise UserError(
            f"models.{model.name}: a model of the type {model.transformers_config.model_type} does not give one hidden state "
            f"for each token, which {task.title} needs; leave it out"
        )


def _check_end_token(model: Model, task: Task, language: str) -> None:
    """Raises UserError if an encoder-decoder, which classifies at its end token, would not be given one."""
    config = model.transformers_config
    if config.is_encoder_decoder and config.eos_token_id not in special_frame(model.tokenizer(language))[1]:
        raise UserError(
            f"models.{model.name}: {task.title} reads the token {config.eos_token_id} (eos_token_id of its config.json), which "
            "its tokenizer does not put after text; correct config.json"
        )
