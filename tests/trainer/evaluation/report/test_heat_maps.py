"""Transfer and overlap matrices."""

import numpy as np
import pytest

from schemas.vocabulary import Vocabulary
from tests.support.evaluations import make_evaluation
from trainer.evaluation.report.collect import content_of
from trainer.evaluation.report.heat_maps import merged_overlap, overlap


def test_transfer(tmp_path):
    content = content_of(make_evaluation(tmp_path))
    assert [heat_map.title.split(": ")[1] for heat_map in content.transfer] == [m.name for m in content.models]
    values = {
        (r.trained_on, r.language): r.value for r in content.results if (r.task, r.model) == ("tagging", "student")
    }
    student = content.transfer[2]
    assert [[values[row, column] for column in student.columns] for row in student.rows] == student.values
    assert (student.rows, student.columns) == (["de", "fi", "tr"], ["de", "fi", "tr"])
    assert content.transfer[0].rows == ["de"]
    flat = [value for heat_map in content.transfer for row in heat_map.values for value in row]
    assert {(heat_map.low, heat_map.high) for heat_map in content.transfer} == {(min(flat), max(flat))}


def test_overlap_is_the_share_of_the_rows_tokens():
    heat_map = overlap({"a": {"x", "y", "z"}, "b": {"z", "w"}, "c": set()})
    assert heat_map.values == [[1, pytest.approx(1 / 3), 0], [0.5, 1, 0], [None, None, None]]


def test_overlap_in_a_merged_vocabulary():
    ids = {"a": np.array([0, 1, 2, -1], np.int32), "b": np.array([-1, 1, 0, 2], np.int32)}
    vocabulary = Vocabulary(["<pad>", "x", "y", "z"], ["pad", "word", "word", "word"], ids)
    assert merged_overlap("student", vocabulary).values == [[1, pytest.approx(2 / 3)], [pytest.approx(2 / 3), 1]]
