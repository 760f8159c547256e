"""How students of this trainer were trained: curves and steps to a given loss, from the metrics next to their weights."""

import logging
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from schemas.errors import first_line, printable
from schemas.names import Name
from trainer.artifacts.export import read_export
from trainer.artifacts.metrics import METRICS_FILE, read_metrics
from trainer.evaluation.report.content import Curve, Reach

logger = logging.getLogger(__name__)

# The name of means over a model's languages; no language can have it.
MEAN = "mean of all"


class _Mlm(BaseModel):
    mlm: float


class _Nll(BaseModel):
    nll: float


class Line(BaseModel):
    """The fields used from a line of `metrics.jsonl`; they are validated because a folder may come from elsewhere."""

    step: int
    train: dict[Name, _Mlm] = {}
    tokens_per_second: float | None = None
    heldout: dict[Name, _Nll] = {}
    heldout_sha256: str | None = None


def training_lines(folders: Mapping[str, str]) -> dict[str, list[Line]]:
    """Returns the lines of the metrics file in each model's folder; models without any are left out.

    A file of this name with other content is left out too, with a warning: other programs write such files.
    """
    lines = {}
    for model, folder in folders.items():
        path = Path(folder) / METRICS_FILE
        try:
            lines[model] = [Line.model_validate(line) for line in read_metrics(path)]
        except (OSError, ValueError) as error:  # pydantic's errors are ValueErrors too.
            logger.warning(
                printable(
                    f"{path}: left out of the report, because it does not hold metrics of this trainer ({first_line(error)})"
                )
            )
    return {model: of_model for model, of_model in lines.items() if of_model}


def exported_steps(folders: Mapping[str, str]) -> dict[str, int]:
    """Returns the step of the weights in each model's folder; models that this trainer did not export are left out.

    It is not the last step of the training if the run exports the best student, or was continued and is not finished.
    """
    exports = {model: read_export(folder) for model, folder in folders.items()}
    return {model: export.step for model, export in exports.items() if export and isinstance(export.step, int)}


def curves(lines_by_model: Mapping[str, list[Line]], languages: Sequence[str] = ()) -> list[Curve]:
    """Returns held-out NLL by language; for models that were never evaluated, the MLM loss on training data.

    If a model was evaluated on several held-out sets in turn, the points are those of the last set.

    Args:
      languages: the order of a model's curves; other languages follow in the order of their names.
    """
    places = {language: place for place, language in enumerate(languages)}
    made = []
    for model, lines in lines_by_model.items():
        evaluated = [line for line in lines if line.heldout]
        sha256 = evaluated[-1].heldout_sha256 if evaluated else None
        points: dict[str, dict[int, float]] = defaultdict(dict)
        for line in lines:
            if evaluated and line.heldout_sha256 == sha256:
                for language, scores in line.heldout.items():
                    points[language][line.step] = scores.nll
            elif not evaluated:
                for language, losses in line.train.items():
                    points[language][line.step] = losses.mlm
        made += [
            Curve(model, language, sha256, list(points[language]), list(points[language].values()))
            for language in sorted(points, key=lambda language: (places.get(language, len(places)), language))
        ]
    return made


def reaches(all_curves: list[Curve], exported: Mapping[str, int]) -> list[Reach]:
    """Returns when other models first reach each model's final loss, by language and for the mean over languages.

    Args:
      exported: the step of each model's weights, whose loss is the final one; by default the last. A model that was not
        evaluated at this step is no target.
    """
    points: dict[tuple[str, str, frozenset], dict[str, dict[int, float]]] = defaultdict(dict)
    by_model: dict[tuple[str, str], list[Curve]] = defaultdict(list)
    for curve in all_curves:
        if curve.heldout_sha256:
            points[curve.heldout_sha256, curve.language, frozenset()][curve.model] = _points(curve)
            by_model[curve.heldout_sha256, curve.model].append(curve)
    for (sha256, model), of_model in by_model.items():
        if len(of_model) > 1:
            # Only means over the same languages can be compared.
            points[sha256, MEAN, frozenset(curve.language for curve in of_model)][model] = _mean(of_model)
    made = []
    for (sha256, language, _), losses in points.items():
        for model, losses_of_model in losses.items() if len(losses) > 1 else ():
            final = exported.get(model, max(losses_of_model))
            if final not in losses_of_model:
                continue
            loss = losses_of_model[final]
            reached = {other: _first_step(losses[other], loss) for other in losses if other != model}
            made.append(Reach(model, language, sha256, loss, final, reached))
    return made


def speed(lines: list[Line]) -> float | None:
    """Returns training tokens per second, the median of log lines; None if there are none."""
    speeds = [line.tokens_per_second for line in lines if line.tokens_per_second is not None]
    return statistics.median(speeds) if speeds else None


def _points(curve: Curve) -> dict[int, float]:
    """Returns losses by step."""
    return dict(zip(curve.steps, curve.losses, strict=True))


def _mean(of_model: list[Curve]) -> dict[int, float]:
    """Returns the mean loss over languages, at the steps that all of them have."""
    losses = [_points(curve) for curve in of_model]
    shared = sorted(set(losses[0]).intersection(*losses[1:]))
    return {step: statistics.fmean(points[step] for points in losses) for step in shared}


def _first_step(losses: Mapping[int, float], loss: float) -> int | None:
    return next((step for step in sorted(losses) if losses[step] <= loss), None)
