"""The Parquet file of a shard: rows, row groups and the receipt are read back as they were written."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.shard.parquet import AuditSums, Receipt, encode_rows, read_receipt
from schemas.errors import UserError
from schemas.rows import MASKED_KEY, ROW_SCHEMA, RUN_KEY

RECEIPT = Receipt(
    records=9, used=7, rejected={"empty": 2}, rows=5, tokens=15, masked_positions=5, audit=AuditSums(rows=1, kl=0.25)
)


def make_rows(count: int) -> pa.Table:
    rows = [
        {
            "example_id": f"en:bert:a.txt:{number}:0:0",
            "language": "en",
            "teacher": "bert",
            "input_ids": [1, 3, 2],
            "masked_positions": [1],
            "labels": [number],
            "label_logprobs": [-0.5 * number],
            "topk_ids": [number, 4],
            "topk_logprobs": [-0.25, -2.0],
        }
        for number in range(count)
    ]
    return pa.Table.from_pylist(rows, ROW_SCHEMA)


@pytest.mark.parametrize(("row_group_rows", "groups"), [(2, [2, 2, 1]), (5, [5]), (100, [5])])
def test_rows_and_receipt_come_back(row_group_rows, groups):
    rows = make_rows(5)
    content = encode_rows(rows, 2, "vocabulary", "run", RECEIPT.model_dump_json(), row_group_rows)
    file = pq.ParquetFile(io.BytesIO(content))
    assert file.read().to_pylist() == rows.to_pylist()
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == groups
    assert file.metadata.metadata[MASKED_KEY.encode()].decode() == str(groups)
    assert file.metadata.metadata[RUN_KEY.encode()] == b"run"
    assert read_receipt("x.parquet", file.metadata) == RECEIPT
    assert content == encode_rows(rows, 2, "vocabulary", "run", RECEIPT.model_dump_json(), row_group_rows)


@pytest.mark.parametrize("receipt", ["", "{}", "null"])
def test_a_file_without_a_receipt_is_named(receipt):
    content = encode_rows(make_rows(1), 2, "vocabulary", "run", receipt, 5)
    with pytest.raises(UserError, match="^x.parquet: its footer has no valid record of the shard"):
        read_receipt("x.parquet", pq.read_metadata(io.BytesIO(content)))


def test_a_receipt_without_samples_does_not_mention_them():
    """The files of a run without samples stay the same as before samples existed."""
    assert "sampled" not in RECEIPT.model_dump_json()
    sampled = RECEIPT.model_copy(update={"audit": AuditSums(rows=1, sampled_error=0.5)})
    assert Receipt.model_validate_json(sampled.model_dump_json()) == sampled
