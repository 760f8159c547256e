"""The programs in docs/parquet.md that read the Parquet, run on the small world's predictions."""

import re

import numpy as np
import pandas as pd
import pytest

from schemas.vocabulary import VOCABULARY_FILE
from tests.support.documents import blocks

pytestmark = pytest.mark.heavy

FOLDER = "demo/predictions"
BLOCKS = {
    re.search(r"^import (\w+)", block.code, re.MULTILINE)[1]: block.code
    for block in blocks("python")
    if not block.not_run
}


@pytest.fixture
def run(predictions):
    """A function that runs the program that imports `library`, and returns its variables."""

    def program(library: str) -> dict:
        names: dict = {}
        exec(compile(BLOCKS[library].replace(FOLDER, str(predictions)), f"docs/parquet.md ({library})", "exec"), names)
        return names

    return program


@pytest.fixture(scope="module")
def tokens(predictions) -> pd.Series:
    return pd.read_parquet(predictions / VOCABULARY_FILE).token


@pytest.fixture(scope="module")
def positions(predictions, tokens) -> pd.DataFrame:
    """One row per masked position: language, wanted, guessed, right, logprob."""
    rows = pd.read_parquet(predictions)
    positions = rows.assign(first=[ids[::8] for ids in rows.topk_ids]).explode(["labels", "label_logprobs", "first"])
    return pd.DataFrame(
        {
            "language": positions.language,
            "wanted": tokens[positions.labels].array,
            "guessed": tokens[positions["first"]].array,
            "right": (positions.labels == positions["first"]).array,
            "logprob": positions.label_logprobs.astype(float),
        }
    )


def test_all_are_run():
    """Blocks that are marked as not run are valid Python too."""
    assert set(BLOCKS) == {"pandas", "duckdb", "polars"}
    others = [block for block in blocks("python") if block.not_run]
    assert len(BLOCKS) + len(others) == len(blocks("python"))
    for block in others:
        compile(block.code, block.where, "exec")


def test_pandas(run, predictions, tokens, capsys):
    row = run("pandas")["row"]
    text, *lines = capsys.readouterr().out.splitlines()
    assert text == " ".join(tokens[row.input_ids]) and text.startswith("<s> ") and text.endswith(" </s>")
    assert len(lines) == len(row.labels) > 0
    for line, position, label, ids in zip(
        lines, row.masked_positions, row.labels, row.topk_ids.reshape(-1, 8), strict=True
    ):
        assert line.startswith(f"{position} {tokens[label]} {{")
        assert all(repr(token) in line for token in tokens[ids])


def test_duckdb(run, positions, capsys):
    names = run("duckdb")
    accuracy = names["accuracy"].df().set_index("language")
    by_language = positions.groupby("language")
    assert list(accuracy.index) == sorted(set(positions.language))
    assert (accuracy.positions == by_language.size()).all()
    np.testing.assert_allclose(accuracy.accuracy, by_language.right.mean())
    np.testing.assert_allclose(accuracy.logprob, by_language.logprob.mean(), rtol=1e-5)
    labels = names["labels"].df()
    by_label = positions.groupby(["language", "wanted"])
    assert labels.positions.tolist() == sorted(by_label.size(), reverse=True)[:10]
    for row in labels.itertuples():
        actual = by_label.get_group((row.language, row.token))
        assert (row.positions, row.accuracy) == (len(actual), pytest.approx(actual.right.mean()))
    printed = capsys.readouterr().out
    assert all(token in printed for token in labels.token)


def test_polars(run, positions, capsys):
    names = run("polars")
    accuracy = names["accuracy"].to_pandas().set_index("language")
    by_language = positions.groupby("language")
    assert list(accuracy.index) == sorted(set(positions.language))
    assert (accuracy.len == by_language.size()).all()
    np.testing.assert_allclose(accuracy.accuracy, by_language.right.mean())
    errors = names["errors"]
    by_error = positions[~positions.right].groupby(["language", "wanted", "guessed"]).size()
    assert sorted(errors["times"], reverse=True) == sorted(by_error, reverse=True)[:10]
    for row in errors.iter_rows(named=True):
        assert row["times"] == by_error[row["language"], row["wanted"], row["guessed"]]
    printed = capsys.readouterr().out
    assert all(token in printed for token in errors["wanted"])


def test_all_read_float16_alike(predictions):
    """`topk_logprobs` has Parquet's type FLOAT16, which DuckDB widens and Polars keeps."""
    import duckdb
    import polars as pl

    files = str(predictions / "*/*/*.parquet")
    expected = pd.read_parquet(predictions).set_index("example_id").topk_logprobs
    by_duckdb = duckdb.sql(f"SELECT example_id, topk_logprobs FROM '{files}'").df().set_index("example_id")
    by_polars = pl.read_parquet(files, columns=["example_id", "topk_logprobs"])
    assert by_polars.schema["topk_logprobs"] == pl.List(pl.Float16)
    for actual in (by_duckdb.topk_logprobs, by_polars.to_pandas().set_index("example_id").topk_logprobs):
        assert len(actual) == len(expected)
        assert all(np.array_equal(actual[name], logprobs) for name, logprobs in expected.items())
