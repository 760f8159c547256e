"""Batches: the columns of the rows, gathered and padded."""

import numpy as np
import pandas as pd

from schemas.predictions import open_predictions
from tests.support.columns import read_columns
from tests.support.readers import reader, take
from trainer.data.batches import Columns, Piece, make_batches


def test_batches_hold_the_rows_columns(predictions):
    frame = pd.read_parquet(predictions)
    by_ids = {(row.language, tuple(row.input_ids)): row for row in frame.itertuples()}
    source = reader(predictions)
    for batch in take(source, 20):
        start = 0
        width = batch.input_ids_BL.shape[1]
        for index, (ids, mask) in enumerate(zip(batch.input_ids_BL, batch.attention_mask_BL, strict=True)):
            count = ((batch.rows_M // width) == index).sum().item()
            part = slice(start, start + count)
            language = source.languages[batch.language_M[start]]
            row = by_ids[language, tuple(ids[mask.bool()].tolist())]
            assert (batch.rows_M[part] % width).tolist() == row.masked_positions.tolist()
            assert batch.labels_M[part].tolist() == row.labels.tolist()
            assert batch.topk_ids_MK[part].flatten().tolist() == row.topk_ids.tolist()
            assert batch.topk_logprobs_MK[part].flatten().half().numpy().tolist() == row.topk_logprobs.tolist()
            assert np.array_equal(batch.label_logprobs_M[part].numpy(), row.label_logprobs)
            start += count
        assert start == len(batch.labels_M)
        assert batch.input_ids_BL.numel() <= 400


def test_gathering_rows(predictions):
    """Compared with pandas row by row: parts of two row groups, in another order."""
    opened = open_predictions(str(predictions))
    file = next(file for file in opened.files if len(file.record.row_groups) > 1)
    frame = pd.read_parquet(file.url)
    first = file.record.row_groups[0]
    parts = [(read_columns(file, 0, 8), slice(3, 9)), (read_columns(file, 1, 8), slice(0, 4))]
    rows = [*range(3, 9), *range(first, first + 4)]
    order = np.random.default_rng(0).permutation(10)
    gathered = Columns.gather(parts, order)
    for name in ("input_ids", "masked_positions", "labels", "label_logprobs", "topk_ids", "topk_logprobs"):
        ends = np.cumsum(gathered.lengths(name))
        assert len(gathered.values(name)) == ends[-1]
        for actual, index in zip(np.split(gathered.values(name), ends[:-1]), order, strict=True):
            assert np.array_equal(actual, frame.iloc[rows[index]][name])
    piece = Piece(parts[0][0], slice(0, 5), 1, 2, file, 0)
    batches = make_batches([piece], 10**6, 0)
    assert (
        len(batches) == 1
        and set(batches[0].language_M.tolist()) == {1}
        and batches[0].tokens == parts[0][0].lengths("input_ids")[:5].sum()
    )
