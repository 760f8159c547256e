"""The report as one HTML page that needs nothing else: no script, no font, no request."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from trainer.evaluation.report.charts import curve_chart, reliability_chart
from trainer.evaluation.report.content import Content
from trainer.evaluation.report.sections import summary_of
from trainer.evaluation.report.tables import Section

_TEMPLATE = "page.html.jinja"


def to_html(content: Content, sections: list[Section]) -> str:
    """The page. The template escapes whatever is put in, but for the charts, whose text matplotlib has escaped."""
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        title=content.title, summary=summary_of(content), sections=sections, charts=_charts(content)
    )


def _charts(content: Content) -> dict[str, str]:
    """By the keys that sections call them by."""
    models = [model.name for model in content.models]
    charts = {}
    for language in dict.fromkeys(curve.language for curve in content.curves):
        key = f"curve-{language}"
        charts[key] = curve_chart(key, [curve for curve in content.curves if curve.language == language], models)
    languages = list(dict.fromkeys(calibration.language for calibration in content.calibration))
    for model in dict.fromkeys(calibration.model for calibration in content.calibration):
        key = f"calibration-{model}"
        charts[key] = reliability_chart(key, [c for c in content.calibration if c.model == model], languages)
    return charts
