"""A row: one masked sequence with its teacher's predictions.

Legend: L length of the sequence, M masked positions, K top-k, S tail samples.

| column             | Arrow type      | shape | meaning                                        |
| ------------------ | --------------- | ----- | ---------------------------------------------- |
| `example_id`       | string          |       | `language:teacher:source:record:segment:copy`  |
|                    |                 |       | (record: the byte where it starts in its file, |
|                    |                 |       | uncompressed, or its row in a Parquet file)    |
| `language`         | string          |       | as in the pipeline's configuration             |
| `teacher`          | string          |       | as in the pipeline's configuration             |
| `input_ids`        | list<int32>     | [L]   | merged ids after masking, with the teacher's   |
|                    |                 |       | special tokens, without padding                |
| `masked_positions` | list<int32>     | [M]   | ascending positions in `input_ids` that carry a|
|                    |                 |       | target: masked, replaced and kept ones         |
| `labels`           | list<int32>     | [M]   | the original tokens, merged ids                |
| `label_logprobs`   | list<float32>   | [M]   | the teacher's log-probability of the label     |
| `topk_ids`         | list<int32>     | [M*K] | merged ids, most probable first                |
| `topk_logprobs`    | list<float16>   | [M*K] | descending; log-softmax over the teacher's     |
|                    |                 |       | whole vocabulary at temperature 1, in nats     |
| `tail_ids`         | list<int32>     | [M*S] | merged ids, drawn with replacement from the    |
|                    |                 |       | teacher's tokens outside the top-k; the column |
|                    |                 |       | exists only if S > 0                           |

No value is null. Log-probabilities are at most 0, with no tolerance: the normaliser is the
largest logit plus the logarithm of a sum that is at least 1, and rounding keeps the order.

If the vocabulary was trimmed, predictions outside it keep their position, with id -1 and
log-probability -inf: their mass is part of the tail. Tail samples outside it are -1 and keep
their share of the tail's mass.

The S tail samples of a position are independent and in the order of drawing, and a token may
occur several times. Each stands for 1/S of the tail's mass, which is 1 minus the mass of the
top-k.

With K = 0 no teacher ran: `label_logprobs`, `topk_ids` and `topk_logprobs` are
empty lists, and only masked-LM training can use the rows.

An example with L = 6, M = 2, K = 2, ids shown as tokens:

    input_ids         <s>  ▁the  <mask>  ▁sat  <mask>  </s>
    masked_positions             2             4
    labels                       ▁cat          ▁down
    label_logprobs               -0.7          -1.2
    topk_ids                     ▁cat ▁dog     ▁there ▁down
    topk_logprobs                -0.7 -1.1     -0.9 -1.2

All id columns are in the merged id space of `_vocabulary.parquet` beside the data.
The footer of every file repeats the schema version, k, S (if above 0), the vocabulary's sha256
and the run's fingerprint (keys below), so that a file from another run is recognised, and has
the number of masked positions of each row group. The manifest has the sha256 of the footer,
and every page has a checksum, so that no change in a file goes unnoticed.
"""

import json

import pyarrow as pa

from schemas import SCHEMA_VERSION
from schemas.errors import UserError

ROW_SCHEMA = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("teacher", pa.string(), nullable=False),
        pa.field("input_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("masked_positions", pa.list_(pa.int32()), nullable=False),
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        pa.field("label_logprobs", pa.list_(pa.float32()), nullable=False),
        pa.field("topk_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("topk_logprobs", pa.list_(pa.float16()), nullable=False),
    ]
)
# Upper limit for the log of the top-k's mass when the tail's mass is computed from it, so that the tail has at least
# about 1e-6: float16 rounds, and the top-k of a confident teacher may add up to more than 1. float32 can represent this
# limit (1 - 1e-8 would round to 1).
HIGHEST_LOG_MASS = -1e-6
_TAIL_FIELD = pa.field("tail_ids", pa.list_(pa.int32()), nullable=False)

_PREFIX = "mergedistill."
VERSION_KEY = _PREFIX + "schema_version"
TOP_K_KEY = _PREFIX + "top_k"
TAIL_SAMPLES_KEY = _PREFIX + "tail_samples"
VOCABULARY_KEY = _PREFIX + "vocabulary_sha256"
RUN_KEY = _PREFIX + "run"
MASKED_KEY = _PREFIX + "masked_positions"
RECEIPT_KEY = _PREFIX + "receipt"


def row_schema(tail_samples: int) -> pa.Schema:
    """The columns of rows with S tail samples per masked position: `ROW_SCHEMA` if S = 0."""
    return ROW_SCHEMA.append(_TAIL_FIELD) if tail_samples else ROW_SCHEMA


def footer(
    top_k: int,
    vocabulary_sha256: str,
    run_sha256: str,
    masked_positions: list[int],
    receipt: str,
    *,
    tail_samples: int = 0,
) -> dict[str, str]:
    """Returns the key-value metadata of one Parquet file.

    Args:
      run_sha256: the run's fingerprint, which the manifest repeats.
      masked_positions: counts for each row group.
      receipt: JSON that only the writer reads.
    """
    return {
        VERSION_KEY: str(SCHEMA_VERSION),
        TOP_K_KEY: str(top_k),
        **({TAIL_SAMPLES_KEY: str(tail_samples)} if tail_samples else {}),
        VOCABULARY_KEY: vocabulary_sha256,
        RUN_KEY: run_sha256,
        MASKED_KEY: json.dumps(masked_positions),
        RECEIPT_KEY: receipt,
    }


def check_footer(
    path: str,
    metadata: dict[bytes, bytes] | None,
    top_k: int,
    vocabulary_sha256: str,
    run_sha256: str,
    *,
    tail_samples: int = 0,
) -> None:
    """Refuses a Parquet file that does not belong to its manifest.

    Raises:
      UserError: names the file, the key, and both values.
    """
    # A file without tail samples does not mention them.
    metadata = {TAIL_SAMPLES_KEY.encode(): b"0"} | (metadata or {})
    wanted = footer(top_k, vocabulary_sha256, run_sha256, [], "") | {TAIL_SAMPLES_KEY: str(tail_samples)}
    for key, expected in wanted.items():
        value = metadata.get(key.encode(), b"(missing)").decode(errors="backslashreplace")
        if key not in (MASKED_KEY, RECEIPT_KEY) and value != expected:
            raise UserError(
                f"{path}: {key} is {value[:100]}, but the manifest says {expected}; "
                "this file is from another run: remove it, or give the right folder"
            )
