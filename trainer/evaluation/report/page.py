"""The report as one self-contained HTML page: no script, no font, no request."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from trainer.evaluation.report.tables import Section

_TEMPLATE = "page.html.jinja"


def to_html(title: str, summary: list[str], sections: list[Section]) -> str:
    """Returns the page. The template escapes all values except the charts, whose text matplotlib has escaped.

    Args:
      summary: a sentence, then items of a list.
    """
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(title=title, summary=summary, sections=sections)
