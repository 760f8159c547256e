"""The sections about how students were trained."""

from collections import defaultdict

from trainer.evaluation.report.charts import heldout_chart, training_chart
from trainer.evaluation.report.content import Content, Curve, Reach
from trainer.evaluation.report.tables import NOTHING, Cell, Group, Row, Section, Table, number

# As many characters of a sha256 as a reader compares.
_SHORT = 8


def curves_section(content: Content) -> Section | None:
    """Held-out losses, one chart for each held-out data and language; then training losses, one chart for each model."""
    if not content.curves:
        return None
    heldout, training = _heldout_charts(content), _training_charts(content)
    paragraphs = []
    if heldout:
        paragraphs.append(
            "The held-out loss over the steps of training, in nats per masked token (lower is better), of models that this "
            "trainer trained. Losses on different held-out data cannot be compared, so each has its own chart. Held-out data are named by the first characters of "
            "their heldout_sha256 in the models' metrics.jsonl."
        )
    if training:
        paragraphs.append(
            "A model that was never evaluated on held-out data has a chart of its MLM loss on the data that it was trained "
            "on. Each model may have been trained on other data, so these losses cannot be compared between models. The "
            "languages in the legend are named as in the training."
        )
    return Section("curves", "Loss curves", paragraphs, charts=heldout + training)


def _heldout_charts(content: Content) -> list[tuple[str, str]]:
    models = [model.name for model in content.models]
    by_data: dict[tuple[str, str], list[Curve]] = defaultdict(list)
    for curve in content.curves:
        if curve.heldout_sha256:
            by_data[curve.heldout_sha256, curve.language].append(curve)
    return [
        (f"{language}, held-out data {sha256[:_SHORT]}", heldout_chart(f"heldout-{place}", curves, models))
        for place, ((sha256, language), curves) in enumerate(by_data.items())
    ]


def _training_charts(content: Content) -> list[tuple[str, str]]:
    by_model: dict[str, list[Curve]] = defaultdict(list)
    for curve in content.curves:
        if not curve.heldout_sha256:
            by_model[curve.model].append(curve)
    languages = list(dict.fromkeys(curve.language for curves in by_model.values() for curve in curves))
    return [
        (f"{model}, on its training data", training_chart(f"training-{place}", curves, languages))
        for place, (model, curves) in enumerate(by_model.items())
    ]


def reaches_section(content: Content) -> Section | None:
    """Steps to the final losses of other models, one table for each held-out data."""
    by_data: dict[str, list[Reach]] = defaultdict(list)
    for reach in content.reaches:
        if reach.reached:
            by_data[reach.heldout_sha256].append(reach)
    if not by_data:
        return None
    paragraphs = [
        "For each model, the number of steps after which the other models first reached its final held-out loss, that of its "
        "exported weights, as far as their evaluations show. Below it is that number as a share of the model's own steps. Models are in one table if they were evaluated on the "
        "same held-out data."
    ]
    tables = [_reaches_table(sha256, reaches) for sha256, reaches in by_data.items()]
    return Section("steps", "Steps to a given quality", paragraphs, tables)


def _reaches_table(sha256: str, reaches: list[Reach]) -> Table:
    models = list(dict.fromkeys(reach.model for reach in reaches))
    groups = []
    for model in models:
        rows = [_reach_row(reach, models) for reach in reaches if reach.model == model]
        groups.append(Group(f"The final loss of {model}", rows))
    header = ["language", "final loss", "its steps", *models]
    return Table(f"Steps to reach a final loss on held-out data {sha256[:_SHORT]}", header, groups, repeats_header=True)


def _reach_row(reach: Reach, models: list[str]) -> Row:
    others = [_steps(reach.reached[other], reach.steps) if other in reach.reached else NOTHING for other in models]
    return Row(reach.language, [number(reach.loss), number(reach.steps, "{:,}"), *others])


def _steps(steps: int | None, of: int) -> Cell:
    return Cell("not reached") if steps is None else number(steps, "{:,}", details=[f"{steps / of:.2f} of its steps"])
