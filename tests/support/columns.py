"""Row groups in the trainer's format."""

from schemas.predictions import PredictionFile
from schemas.row_groups import RowGroupReader
from trainer.data.batches import Columns, columns_read


def read_columns(file: PredictionFile, group: int, top_k: int) -> Columns:
    """Returns one row group, read separately."""
    return Columns.of(RowGroupReader(columns_read(top_k)).read(file, group), top_k)
