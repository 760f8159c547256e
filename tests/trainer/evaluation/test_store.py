"""Scores that are kept."""

import numpy as np

from trainer.evaluation.store import Kept, Store
from trainer.evaluation.tasks.task import Job, Ratio, Scores


def test_what_is_put_is_got(tmp_path):
    store, job = Store(str(tmp_path)), Job("tagging", "student", "de", 3)
    assert store.get(job, "f") is None
    scores = Scores("fi", {"accuracy": Ratio(np.array([1.0, 0.1]), np.array([2.0, 3.0]))}, {"layer": 4.0}, "q")
    store.put(job, "f", Kept([scores], 1.5))
    (kept,), seconds = store.get(job, "f")
    assert (kept.language, kept.figures) == ("fi", {"layer": 4.0})
    np.testing.assert_array_equal(kept.ratios["accuracy"].numerators_U, [1.0, 0.1])
    assert kept.questions == "q" and seconds == 1.5
    assert store.get(job, "other") is None and store.get(Job("tagging", "student", "de", 4), "f") is None
