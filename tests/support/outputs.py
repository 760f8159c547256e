"""Reads the pipeline's output: files and rows."""

import pandas as pd


def rows(folder) -> pd.DataFrame:
    return pd.read_parquet(folder).sort_values("example_id", ignore_index=True)


def same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return one.map(lambda x: x if isinstance(x, str) else x.tobytes()).equals(
        other.map(lambda x: x if isinstance(x, str) else x.tobytes())
    )


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
