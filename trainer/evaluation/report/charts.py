"""Charts as inline SVG: text stays text, colours are CSS variables of the page, and the bytes are reproducible.

The variables are `--ink` (text and axes), `--rule` (grid) and `--series-1` to `--series-8` (lines).
"""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainer.evaluation.report.content import Calibration, Curve

SERIES = 8
# Placeholder colours that are replaced by the variables; no chart uses them otherwise.
_INK, _RULE = "#010203", "#040506"
_LINES = [f"#0708{number:02x}" for number in range(1, SERIES + 1)]
_VARIABLES = {_INK: "--ink", _RULE: "--rule"} | {color: f"--series-{n}" for n, color in enumerate(_LINES, start=1)}
# Lines also differ in style and marker, not only in colour.
_STYLES = ("-", "--", "-.", ":")
_MARKERS = "os^Dv*Xd"
# Small, so that text is readable on a phone.
_INCHES = (4.6, 3.4)
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "text.parse_math": False,
}


def heldout_chart(key: str, curves: Sequence[Curve], models: Sequence[str]) -> str:
    """Returns held-out loss over steps: one line for each model, in the colour of its place in `models`."""
    lines = [(curve.model, models.index(curve.model), curve) for curve in curves]
    return _loss_chart(key, lines, "held-out loss, nats per masked token")


def training_chart(key: str, curves: Sequence[Curve], languages: Sequence[str]) -> str:
    """Returns one model's training loss over steps: one line for each language, in the colour of its place in `languages`."""
    lines = [(curve.language, languages.index(curve.language), curve) for curve in curves]
    return _loss_chart(key, lines, "training loss, nats per masked token")


def reliability_chart(key: str, calibrations: Sequence[Calibration], languages: Sequence[str]) -> str:
    """Returns accuracy over confidence: one line for each language, and the diagonal."""
    with matplotlib.rc_context(_SETTINGS):
        figure, axes = _axes()
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=(0, (1, 2)), label="perfect")
        for calibration in calibrations:
            points = [
                (confidence, accuracy)
                for confidence, accuracy in zip(calibration.confidences, calibration.accuracies, strict=True)
                if confidence is not None and accuracy is not None
            ]
            line = _line(languages.index(calibration.language))
            axes.plot(*zip(*points, strict=True) if points else ([], []), label=calibration.language, **line)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
        return _svg(key, figure, len(calibrations) + 1)


def _loss_chart(key: str, lines: Sequence[tuple[str, int, Curve]], axis: str) -> str:
    """Returns losses over steps.

    Args:
      lines: the name of each line in the legend, the number of its colour, and its points.
      axis: the title of the vertical axis.
    """
    with matplotlib.rc_context(_SETTINGS):
        figure, axes = _axes()
        for name, number, curve in lines:
            axes.plot(curve.steps, curve.losses, label=name, markevery=max(1, len(curve.steps) // 8), **_line(number))
        axes.set_xlabel("training step")
        axes.set_ylabel(axis)
        return _svg(key, figure, len(lines))


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_INCHES, layout="constrained")
    return figure, figure.subplots()


def _line(number: int) -> dict:
    return {
        "color": _LINES[number % SERIES],
        "linestyle": _STYLES[number // SERIES % len(_STYLES)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "markersize": 4,
        "linewidth": 1.6,
    }


def _svg(key: str, figure: Figure, lines: int) -> str:
    """Returns the figure as an HTML element."""
    columns = 2 if lines > 1 else 1
    figure.set_figheight(_INCHES[1] + 0.2 * -(-lines // columns))
    figure.legend(loc="outside lower center", ncols=columns)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": key}):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # A style sheet in the SVG would apply to the whole page.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"font-family: [^;\"]*; ", "", svg)
    svg = re.sub(r"(\bid=\"|url\(#|href=\"#)", rf"\1{key}-", svg)
    return re.sub("|".join(_VARIABLES), lambda match: f"var({_VARIABLES[match[0]]})", svg).strip()
