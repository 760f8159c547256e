"""The size of a corpus is that of what is read of it, uncompressed."""

import gzip

import pytest

from schemas.corpus.config import TextConfig
from trainer.evaluation.comparison.corpora import count_bytes

LINES = [f"ligne numéro {number:04d}\n" for number in range(100)]


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
@pytest.mark.parametrize(("most", "share"), [(None, 1), (25, 4), (1000, 1)])
def test_bytes_are_those_of_the_text(tmp_path, suffix, most, share):
    content = "".join(LINES).encode()
    (tmp_path / f"a{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    text = TextConfig(files=[str(tmp_path / f"a{suffix}")], max_records=most)
    assert count_bytes({"fr": text}) == {"fr": len(content) // share}
