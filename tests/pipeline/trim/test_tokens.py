"""Which tokens are kept, and rows in the smaller vocabulary."""

import numpy as np

from pipeline.trim.tokens import Usage, trim_rows, trim_vocabulary
from schemas.manifest import open_predictions
from schemas.rows import ROW_SCHEMA


def test_no_rows_at_all():
    table = np.array([0, 1], np.int32)
    assert len(trim_rows(ROW_SCHEMA.empty_table(), table, 0, 8)) == 0
    assert (Usage(np.zeros(2), np.ones(2)) + Usage(np.ones(2), np.ones(2))).predicted.tolist() == [2, 2]


def test_trimming_nothing_changes_nothing(predictions):
    vocabulary = open_predictions(str(predictions)).vocabulary
    same, table = trim_vocabulary(vocabulary, np.ones(len(vocabulary), bool))
    assert same.sha256 == vocabulary.sha256 and (table == np.arange(len(vocabulary))).all()
