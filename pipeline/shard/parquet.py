"""One Parquet file of predictions: how it is encoded, and the receipt in its footer.

The encodings were the smallest on real predictions, except `topk_logprobs` (see below). Sizes are in
bytes per masked position at k = 8 after zstd level 6, for Bible text in 30 languages under a vocabulary
of 119,547 (and, in brackets, for the demo's English teacher, which is less sure of common words).

| column             | chosen                       | plain       | else                          |
| ------------------ | ---------------------------- | ----------- | ----------------------------- |
| `input_ids`        | plain, 11.6 (5.3)            |             | dictionary, 13.1 (5.3)        |
| `labels`           | plain, 2.2 (1.6)             |             | dictionary, 2.7 (1.7)         |
| `topk_ids`         | dictionary, 3.8 (8.6)        | 4.4 (9.4)   |                               |
| `topk_logprobs`    | plain, 11.4 (13.0)           |             | byte stream split, 9.3 (10.8) |
| `label_logprobs`   | byte stream split, 3.3 (3.5) | 3.6 (3.7)   |                               |
| `masked_positions` | delta, 0.8 (0.7)             | 1.0 (0.8)   |                               |
| `example_id`       | delta, 0.1 (0.1)             | 0.1 (0.2)   |                               |

`tail_ids` use byte stream split too: 1.7 bytes per sample; plain and dictionary take 2.0 and 1.9
(docs/decisions/sampled-tail.md).

Byte stream split would be smaller for `topk_logprobs` too, but DuckDB 2.0 cannot read it for float16.
"""

import io
from operator import not_

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError

from schemas.errors import UserError, first_line
from schemas.ragged import flatten
from schemas.rows import RECEIPT_KEY, footer

_ENCODING = {
    "example_id": "DELTA_BYTE_ARRAY",
    "masked_positions.list.element": "DELTA_BINARY_PACKED",
    "label_logprobs.list.element": "BYTE_STREAM_SPLIT",
}
_TAIL_ENCODING = {"tail_ids.list.element": "BYTE_STREAM_SPLIT"}


class AuditSums(BaseModel):
    """Sums over the audited positions of one shard; `schemas.manifest.AuditRecord` defines the quantities."""

    rows: int = 0
    positions: int = 0
    kl: float = 0.0
    kl_top_k: float = 0.0
    tail: float = 0.0
    correct: int = 0
    # Not written without samples, so that such files stay byte for byte the same as before sampling existed.
    sampled_error: float = Field(0.0, exclude_if=not_)
    sampled_bias: float = Field(0.0, exclude_if=not_)


class Receipt(BaseModel):
    """The counts of a shard, stored in its Parquet footer so that a rerun can use them.

    `dtype` is the precision that the teacher was run in; empty if no teacher was run.
    """

    records: int
    used: int
    rejected: dict[str, int]
    rows: int
    tokens: int
    masked_positions: int
    dtype: str = ""
    audit: AuditSums = AuditSums()


def encode_rows(
    rows: pa.Table,
    top_k: int,
    vocabulary_sha256: str,
    run: str,
    receipt: str,
    row_group_rows: int,
    *,
    tail_samples: int = 0,
) -> bytes:
    """Encodes one Parquet file of predictions; `schemas.rows.footer` has the arguments that go into its footer."""
    ends = np.cumsum(np.append(0, flatten(rows["labels"])[2]))
    borders = ends[np.append(np.arange(0, len(rows), row_group_rows), len(rows))]
    metadata = footer(top_k, vocabulary_sha256, run, np.diff(borders).tolist(), receipt, tail_samples=tail_samples)
    encoding = _ENCODING | _TAIL_ENCODING if tail_samples else _ENCODING
    buffer = io.BytesIO()
    pq.write_table(
        rows.replace_schema_metadata(metadata),
        buffer,
        write_page_checksum=True,
        compression="zstd",
        compression_level=6,
        row_group_size=row_group_rows,
        use_dictionary=["language", "teacher", "topk_ids.list.element"],
        # Room for half a million distinct ids; a column with more falls back to plain.
        dictionary_pagesize_limit=2**21,
        column_encoding=encoding,
    )
    return buffer.getvalue()


def read_receipt(url: str, metadata: pq.FileMetaData) -> Receipt:
    """Returns the receipt in the footer of a shard's Parquet file `url`. Raises UserError if it has none."""
    try:
        return Receipt.model_validate_json(metadata.metadata[RECEIPT_KEY.encode()])
    except (KeyError, TypeError, ValidationError) as error:
        raise UserError(
            f"{url}: its footer has no valid record of the shard ({first_line(error)}); remove it and rerun the pipeline"
        ) from None
