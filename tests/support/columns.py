"""Row groups as the trainer holds them."""

from schemas.predictions import PredictionFile
from schemas.row_groups import RowGroupReader
from trainer.data.batches import Columns, columns_read


def read_columns(file: PredictionFile, group: int, top_k: int) -> Columns:
    """One row group, read on its own."""
    return Columns.of(RowGroupReader(columns_read(top_k)).read(file, group), top_k)
