"""The sections about how students were trained."""

from trainer.evaluation.report.charts import curve_chart
from trainer.evaluation.report.content import Content
from trainer.evaluation.report.tables import NOTHING, Cell, Group, Row, Section, Table, number


def curves_section(content: Content) -> Section | None:
    """Loss curves by language."""
    if not content.curves:
        return None
    paragraphs = [
        "The students' loss over their training steps, in nats per masked token (lower is better): on held-out data if a "
        "student was evaluated on any, otherwise the MLM loss on training data."
    ]
    models = [model.name for model in content.models]
    charts = []
    for place, language in enumerate(dict.fromkeys(curve.language for curve in content.curves)):
        of_language = [curve for curve in content.curves if curve.language == language]
        charts.append((language, curve_chart(f"curve-{place}", of_language, models)))
    return Section("curves", "Loss curves", paragraphs, charts=charts)


def reaches_section(content: Content) -> Section | None:
    """Steps to the final losses of other models."""
    if not content.reaches:
        return None
    models = list(dict.fromkeys(reach.model for reach in content.reaches))
    groups = []
    for model in models:
        rows = []
        for reach in content.reaches:
            if reach.model == model:
                others = [
                    _steps(reach.reached[other], reach.steps) if other in reach.reached else NOTHING for other in models
                ]
                rows.append(Row(reach.language, [number(reach.loss), number(reach.steps, "{:,}"), *others]))
        groups.append(Group(f"The final loss of {model}", rows))
    header = ["language", "final loss", "its steps", *models]
    paragraphs = [
        "For each model, the number of steps after which the other models first reached its final held-out loss, as far as "
        "their evaluations show. Below it is that number as a share of the model's own steps."
    ]
    return Section(
        "steps", "Steps to a given quality", paragraphs, [Table("Steps to reach a final loss", header, groups)]
    )


def _steps(steps: int | None, of: int) -> Cell:
    return Cell("not reached") if steps is None else number(steps, "{:,}", detail=f"{steps / of:.2f} of its steps")
