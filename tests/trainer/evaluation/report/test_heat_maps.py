"""Transfer and overlap matrices."""

import numpy as np
import pytest

from schemas.vocabulary import Vocabulary
from tests.support.evaluations import make_evaluation
from trainer.evaluation.report.collect import content_of
from trainer.evaluation.report.heat_maps import merged_overlaps, overlap, transfer


def test_transfer_has_one_matrix_for_each_task(tmp_path):
    content = content_of(make_evaluation(tmp_path))
    (heat_map,) = content.transfer
    assert (heat_map.title, heat_map.columns) == ("Tagging, accuracy", ["de", "fi", "tr"])
    students = [f"{model}, {language}" for model in ("student", "mlm-only") for language in ("de", "fi", "tr")]
    assert heat_map.rows == ["teacher-de, de", "teacher-fi, fi", *students]
    values = {(f"{r.model}, {r.trained_on}", r.language): r.value for r in content.results if r.task == "tagging"}
    assert heat_map.values == [[values[row, column] for column in heat_map.columns] for row in heat_map.rows]
    flat = [value for row in heat_map.values for value in row]
    assert (heat_map.low, heat_map.high) == (min(flat), max(flat))


def test_nothing_is_transferred_within_one_language(tmp_path):
    content = content_of(make_evaluation(tmp_path))
    one = [result for result in content.results if result.trained_on == result.language == "de"]
    assert transfer(content.tasks, ["student"], one) == []


def test_overlap_is_the_share_of_the_rows_tokens():
    heat_map = overlap({"a": {"x", "y", "z"}, "b": {"z", "w"}, "c": set()})
    assert heat_map.values == [[1, pytest.approx(1 / 3), 0], [0.5, 1, 0], [None, None, None]]


def vocabulary(**ids: list[int]) -> Vocabulary:
    """A merged vocabulary of four tokens, with teachers' ids."""
    arrays = {name: np.array(teacher_ids, np.int32) for name, teacher_ids in ids.items()}
    return Vocabulary(["<pad>", "x", "y", "z"], ["pad", "word", "word", "word"], arrays)


def test_overlap_in_merged_vocabularies():
    first = vocabulary(a=[0, 1, 2, -1], b=[-1, 1, 0, 2])
    other = vocabulary(a=[0, 1, 2, 3], b=[-1, 1, 0, 2])
    one, two = merged_overlaps({"first": first, "other": other, "same": first})
    assert one.title == "Teachers in the merged vocabulary of first, same"
    assert one.values == [[1, pytest.approx(2 / 3)], [pytest.approx(2 / 3), 1]]
    assert (two.title, two.values[0]) == ("Teachers in the merged vocabulary of other", [1, 0.75])
