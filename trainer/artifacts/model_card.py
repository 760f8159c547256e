"""The model card of an exported student: known facts, and what its makers must add."""

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from schemas.errors import printable
from schemas.manifest import TeacherRecord
from schemas.predictions import Predictions
from schemas.tables import format_table
from trainer.artifacts.scores import LanguageScores
from trainer.artifacts.teacher_cards import hub_ids, licence_of, shared_licence
from trainer.config import TrainerConfig
from trainer.data.plan import choose_languages
from trainer.data.stages import Stage

# The hub's tag for cards of this trainer, and its name for predicting masked tokens.
TAG, TASK = "mergedistill", "fill-mask"
# Paths on the run's machine mean nothing to readers, and the metadata has the content of `model_card`.
_UNSAID: dict[str, Any] = {
    "output": True,
    "predictions": True,
    "heldout": True,
    "stages": {"__all__": {"predictions"}},
    "model_card": True,
}


def model_card(
    config: TrainerConfig,
    predictions: Predictions,
    stages: list[Stage],
    step: int,
    parameters: int,
    scores: dict[str, LanguageScores],
) -> str:
    """Returns Markdown with the metadata that the hub reads.

    Args:
      step: the step of the weights.
      scores: those of that step, by language; may be empty.
    """
    settings = config.model_dump(mode="json", exclude=_UNSAID, exclude_defaults=True)
    licences = {name: licence_of(teacher, predictions.hub_models) for name, teacher in predictions.teachers.items()}
    metadata = _metadata(config, predictions, shared_licence(licences.values()), scores)
    parts = [
        f"---\n{metadata.to_yaml()}\n---",
        "# A merged multilingual masked language model",
        f"One student of {parameters:,} parameters over a merged vocabulary of {len(predictions.vocabulary):,} tokens, "
        "distilled from the teachers below by MergeDistill (Khanuja, Johnson and Talukdar, 2021, "
        "https://arxiv.org/abs/2106.02834).",
        '`AutoTokenizer` loads a tokenizer for text in any of its languages; with `subfolder="tokenizers/<language>"`, it '
        "loads one that segments the language exactly as its (first) teacher does.",
        "## To be written by you\n\nIntended uses, limitations, where the training text comes from, and what its licence "
        "allows.",
        "## Licence",
        _licence(config, licences),
        "## Teachers",
        _teachers(predictions),
        "## Training data",
        _data(stages[0]) if len(stages) == 1 else _data_of_stages(stages, step),
        "## Training",
        f"The weights are from step {step:,} of {config.max_steps:,}. Settings that differ from the defaults:",
        f"```yaml\n{yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)}```",
    ]
    if scores:
        parts += [
            "## Held-out masked tokens",
            "Accuracy of the most probable token, and mean negative log-likelihood (NLL) in nats. The student predicts over "
            "the merged vocabulary, the teacher over its own.",
            _results(scores),
        ]
    return "\n\n".join(parts) + "\n"


def _metadata(
    config: TrainerConfig, predictions: Predictions, licence: str, scores: dict[str, LanguageScores]
) -> ModelCardData:
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type="held-out",
            dataset_name=f"held-out text ({language})",
            dataset_config=language,
            metric_type=key,
            metric_name=name,
            metric_value=getattr(of_language, key),
        )
        for language, of_language in scores.items()
        for key, name in (
            ("accuracy", "masked-token accuracy"),
            ("nll", "negative log-likelihood, nats per masked token"),
        )
    ]
    return ModelCardData(
        language=choose_languages(predictions, config.sampling.languages),
        license=config.model_card.license or licence,
        base_model=hub_ids(predictions.teachers.values(), predictions.hub_models) or None,
        datasets=config.model_card.datasets or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        library_name="transformers",
        pipeline_tag=TASK,
        tags=[TAG, "distillation"],
        # The hub accepts a name only with results.
        model_name=Path(config.output).name if results else None,
        eval_results=results or None,
    )


def _licence(config: TrainerConfig, licences: dict[str, str | None]) -> str:
    of_teachers = ", ".join(f"{name}: {_text(licence or 'not known')}" for name, licence in licences.items())
    given = config.model_card.license
    return (
        f"{_text(given)}, according to its makers. " if given else ""
    ) + f"The teachers' licences are: {of_teachers}."


def _teachers(predictions: Predictions) -> str:
    rows = [
        [
            name,
            *(_cell(t, field) for field in ("model", "revision")),
            _text(t.family),
            " ".join(t.languages),
            f"{t.vocabulary_size:,}",
        ]
        for name, t in predictions.teachers.items()
    ]
    header = ["teacher", "model", "revision", "tokenizer", "languages", "vocabulary"]
    return format_table(header, rows, "lllllr", is_markdown=True)


def _cell(record: TeacherRecord, field: str) -> str:
    """A field of a teacher's models, one per line, with the weights of additional models."""
    rest = [f"{_text(getattr(part, field) or '-')} (weight {part.weight:g})" for part in record.mixed_with]
    return "<br>".join([_text(getattr(record, field) or ("-" if rest else "")), *rest])


def _data(stage: Stage) -> str:
    """A table of the languages that the student reads."""
    rows, predictions = [], stage.predictions
    languages = choose_languages(predictions, stage.sampling.languages)
    place_F = predictions.numbered_languages(languages)
    columns = [predictions.counts(name) for name in ("rows", "tokens", "masked_positions")]
    for place, language in enumerate(languages):
        counts = (int(column_F[place_F == place].sum()) for column_F in columns)
        rows.append([language, " ".join(predictions.teachers_of(language)), *(f"{count:,}" for count in counts)])
    return format_table(["language", "teacher", "rows", "tokens", "masked positions"], rows, "llrrr", is_markdown=True)


def _data_of_stages(stages: list[Stage], step: int) -> str:
    """Describes the data that was read up to `step`."""
    parts, first = [], 1
    for number, stage in enumerate(stages, 1):
        if first > step:
            break
        rates = sorted({manifest.masking.mlm_probability for manifest in stage.predictions.manifests})
        parts.append(
            f"Stage {number}, steps {first:,} to {min(stage.last_step, step):,}: {' and '.join(f'{rate:g}' for rate in rates)} of the "
            f"tokens masked; languages drawn in proportion to p^{stage.sampling.alpha:g}, where p is their share of the masked "
            "positions."
        )
        parts.append(_data(stage))
        first = stage.last_step + 1
    return "\n\n".join(parts)


def _results(scores: dict[str, LanguageScores]) -> str:
    rows = []
    for language, of_language in scores.items():
        figures = (of_language.accuracy, of_language.nll, of_language.teacher_accuracy, of_language.teacher_nll)
        cells = ["" if figure is None else f"{figure:.3f}" for figure in figures]
        rows.append([language, *cells, f"{of_language.positions:,}"])
    header = ["language", "accuracy", "NLL", "teacher's accuracy", "teacher's NLL", "positions"]
    return format_table(header, rows, is_markdown=True)


def _text(value: str) -> str:
    """Escapes `value` so that it is shown literally, even if it looks like Markdown or HTML."""
    return re.sub(r"[\\`\[\]<>|&!]", lambda match: f"&#{ord(match[0])};", printable(value))
