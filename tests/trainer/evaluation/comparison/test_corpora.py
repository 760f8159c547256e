"""The estimated size of a corpus is close to its uncompressed text, and little is read to estimate it."""

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import trainer.evaluation.comparison.corpora as corpora_module
from schemas.corpus.config import TextConfig
from schemas.corpus.lines import _stored
from schemas.errors import UserError
from trainer.evaluation.comparison.corpora import estimate_bytes

WORDS = ["été", "numéro", "ligne", "sur", "la", "mer"]


def lines(count: int, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randint(1, 9))) + "\n" for _ in range(count)]


def write(path, content: list[str]) -> int:
    """Writes lines in the format that the file's name says; returns the bytes of the text."""
    name, text = path.name, "".join(content).encode()
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"text": [line.strip() for line in content]}), path, use_dictionary=False)
        return len(text)
    if ".jsonl" in name:
        text = "".join(json.dumps({"id": 7, "text": line.strip()}) + "\n" for line in content).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return len("".join(content).encode())


@pytest.mark.parametrize("suffix", ["txt", "txt.gz", "jsonl", "jsonl.gz"])
@pytest.mark.parametrize(("most", "share"), [(None, 1), (25, 4), (1000, 1)])
def test_bytes_of_small_files_are_exact(tmp_path, suffix, most, share):
    size = write(tmp_path / f"a.{suffix}", ["ligne numéro\n"] * 100)
    text = TextConfig(files=[str(tmp_path / f"a.{suffix}")], max_records=most)
    assert estimate_bytes({"fr": text}) == {"fr": size // share}


@pytest.mark.parametrize("most", [None, 20_000])
def test_bytes_of_many_files_are_estimated_from_a_few(tmp_path, monkeypatch, most):
    """Each format has one file more than are sampled, and each file is larger than its sample."""
    monkeypatch.setattr(corpora_module, "_FILES", 2)
    monkeypatch.setattr(corpora_module, "_BYTES", 2**15)
    size = sum(
        write(tmp_path / f"{number}.{suffix}", lines(4_000, number))
        for suffix in ("txt", "txt.gz", "jsonl", "jsonl.gz", "parquet")
        for number in range(3)
    )
    estimate = estimate_bytes({"fr": TextConfig(files=[str(tmp_path)], max_records=most)})["fr"]
    assert estimate == pytest.approx(size if most is None else size / 3, rel=0.1)


def test_plain_text_is_not_read(tmp_path, monkeypatch):
    size = write(tmp_path / "a.txt", lines(100))
    monkeypatch.setattr("schemas.corpus.lines._stored", lambda part: pytest.fail(f"{part} is read"))
    assert estimate_bytes({"fr": TextConfig(files=[str(tmp_path)])}) == {"fr": size}


def test_of_other_files_the_beginning_is_read(tmp_path, monkeypatch):
    write(tmp_path / "a.jsonl", lines(200_000))
    read = []
    monkeypatch.setattr("schemas.corpus.lines.BLOCK", 2**16)
    monkeypatch.setattr(
        "schemas.corpus.lines._stored", lambda part: (read.append(len(block)) or block for block in _stored(part))
    )
    estimate_bytes({"fr": TextConfig(files=[str(tmp_path)])})
    assert 2**18 < sum(read) < 2**20 < (tmp_path / "a.jsonl").stat().st_size


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"comparison\.corpora: text\.fr: no file matches"):
        estimate_bytes({"fr": TextConfig(files=[str(tmp_path / "none.txt")])})
