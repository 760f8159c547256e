"""The files that a comparison writes."""

import json

import pytest

from tests.support.candidates import measured
from trainer.evaluation.comparison.outputs import markdown, to_json
from trainer.evaluation.comparison.ranking import rank

RANKINGS = [
    rank("de", [measured("a"), measured("b", 0.2), measured("blind", unknown=1.0)], 100),
    rank("fr", [measured("a", records=1)], 100),
]


def test_json_holds_the_whole_ranking():
    content = json.loads(json.dumps(to_json(RANKINGS), allow_nan=False))
    german = content[0]
    assert german["language"] == "de" and german["chosen"] == "a" and german["tied"] == []
    assert [(one["name"], one["rank"]) for one in german["candidates"]] == [("a", 1), ("b", 2), ("blind", None)]
    figures = german["candidates"][1]["figures"]
    assert figures["bits_per_character"] == pytest.approx(2.2, abs=0.1)
    assert german["candidates"][1]["differences"]["bits_per_character"]["low"] > 0
    assert german["candidates"][2]["reasons"] == [
        "does not read the language: 100% of the characters are in unknown tokens"
    ]
    # A single record gives no interval.
    assert content[1]["candidates"][0]["low"] is None


def test_markdown_has_a_row_for_each_candidate():
    lines = markdown(RANKINGS, 8).splitlines()
    assert lines[:3] == ["# Comparison of teachers", "", "## de: a"]
    header = next(line for line in lines if "rank" in line)
    assert "tail mass at 8" in header and "minimal pairs" not in header
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert [row[1] for row in cells[2:5]] == ["a", "b", "blind"]
    value, interval = cells[2][2].split(" ", 1)
    assert 1.9 < float(value) < 2.1 and interval.startswith("[")
    assert "- a: 0.1" in "\n".join(lines) or "- a: 0.2" in "\n".join(lines)


def test_a_language_without_candidates_says_so():
    assert "## de: no candidate" in markdown([rank("de", [], 100)], 8)
