"""Charts as SVG."""

import re
import xml.etree.ElementTree as ET

from trainer.evaluation.report.charts import heldout_chart, reliability_chart
from trainer.evaluation.report.content import Calibration, Curve

HOSTILE = "</text><script>alert(1)</script>$x_1$ & \"'"
CURVES = [Curve(name, "de", "1f", [1, 2, 3], [3.0, 2.0, 1.5]) for name in (HOSTILE, "b")]


def test_bytes_are_the_same_and_ids_are_of_one_chart():
    first, second = (heldout_chart("one", CURVES, [HOSTILE, "b"]) for _ in range(2))
    assert first == second
    other = heldout_chart("two", CURVES, [HOSTILE, "b"])
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, other)]
    assert ids[0] and not ids[0] & ids[1]
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', first))
    assert used and used <= ids[0]


def test_colours_are_variables_and_nothing_is_fetched():
    svg = heldout_chart("one", CURVES, [HOSTILE, "b"])
    assert not re.search(r"(?:fill|stroke): ?#", svg) and "<style" not in svg
    assert {"var(--ink)", "var(--rule)", "var(--series-1)", "var(--series-2)"} <= set(re.findall(r"var\([^)]*\)", svg))
    assert set(re.findall(r'"(https?://[^"]*)"', svg)) == {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}


def test_names_are_text():
    texts = [
        element.text for element in ET.fromstring(heldout_chart("one", CURVES, [HOSTILE, "b"])).iter() if element.text
    ]
    assert (
        HOSTILE in texts
        and "b" in texts
        and "training step" in texts
        and "held-out loss, nats per masked token" in texts
    )


def test_a_model_has_one_colour_in_all_charts():
    alone = heldout_chart("one", CURVES[1:], [HOSTILE, "b"])
    assert "var(--series-2)" in alone and "var(--series-1)" not in alone


def test_empty_bins_have_no_point():
    calibration = Calibration("a", "de", 0.1, [9.0, 0.0, 9.0], [0.1, None, 0.9], [0.2, None, 0.8])
    empty = Calibration("a", "fi", 0.1, [0.0], [None], [None])
    svg = reliability_chart("one", [calibration, empty], ["de", "fi"])
    assert svg.count('style="fill: var(--series-1)') == 3  # two points, and one in the legend
    assert "confidence" in svg and "accuracy" in svg and "perfect" in svg
