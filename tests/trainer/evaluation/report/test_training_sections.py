"""The sections about training: which losses share a chart or a table."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from tests.support.evaluations import make_evaluation
from trainer.evaluation.report.collect import content_of
from trainer.evaluation.report.content import Curve, Reach
from trainer.evaluation.report.training_sections import curves_section, reaches_section

FIRST, SECOND = "1f" * 32, "2e" * 32


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return content_of(make_evaluation(tmp_path_factory.mktemp("sections")))


def curve(model: str, language: str, sha256: str | None) -> Curve:
    return Curve(model, language, sha256, [1, 2], [2.0, 1.0])


def texts(svg: str) -> set[str]:
    return {element.text for element in ET.fromstring(svg).iter() if element.text}


def test_each_held_out_data_has_its_own_charts(content):
    shown = [
        curve("student", "de", FIRST),
        curve("student", "fi", FIRST),
        curve("mlm-only", "de", FIRST),
        curve("teacher-de", "de", SECOND),
    ]
    section = curves_section(replace(content, curves=shown))
    models = [model.name for model in content.models]
    assert [(title, sorted(texts(svg) & set(models))) for title, svg in section.charts] == [
        ("de, held-out data 1f1f1f1f", ["mlm-only", "student"]),
        ("fi, held-out data 1f1f1f1f", ["student"]),
        ("de, held-out data 2e2e2e2e", ["teacher-de"]),
    ]
    assert all("held-out loss, nats per masked token" in texts(svg) for _, svg in section.charts)
    assert len(section.paragraphs) == 1


def test_training_losses_have_charts_of_their_own(content):
    shown = [
        curve("student", "de", FIRST),
        curve("teacher-de", "text", None),
        curve("teacher-fi", "text", None),
        curve("teacher-fi", "more", None),
    ]
    section = curves_section(replace(content, curves=shown))
    assert [title for title, _ in section.charts] == [
        "de, held-out data 1f1f1f1f",
        "teacher-de, on its training data",
        "teacher-fi, on its training data",
    ]
    heldout, *training = [texts(svg) for _, svg in section.charts]
    assert "training loss, nats per masked token" not in heldout
    assert all("training loss, nats per masked token" in chart and "text" in chart for chart in training)
    assert ["more" in chart for chart in training] == [False, True]
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for _, svg in section.charts]
    assert len(set.union(*ids)) == sum(map(len, ids))
    # Without held-out losses, nothing is said about them.
    assert len(section.paragraphs) == 2
    assert len(curves_section(replace(content, curves=shown[1:])).paragraphs) == 1


def test_each_held_out_data_has_its_own_table(content):
    reaches = [
        Reach("student", "de", FIRST, 1.0, 10, {"mlm-only": None}),
        Reach("mlm-only", "de", FIRST, 2.0, 10, {"student": 5}),
        Reach("teacher-de", "de", SECOND, 3.0, 10, {"teacher-fi": 9}),
        # Nobody else was evaluated in Turkish.
        Reach("student", "tr", FIRST, 1.0, 10, {}),
    ]
    first, second = reaches_section(replace(content, reaches=reaches)).tables
    assert (first.header[3:], second.header[3:]) == (["student", "mlm-only"], ["teacher-de"])
    assert first.caption != second.caption
    assert [row.heading for group in first.groups for row in group.rows] == ["de", "de"]
    assert reaches_section(replace(content, reaches=reaches[3:])) is None
