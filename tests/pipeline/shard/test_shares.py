"""Shares of a language: exactly one teacher reads each record, whatever the other conditions."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import PipelineConfig
from pipeline.shard.shares import divide
from schemas.predictions import open_predictions

NAMES = [f"t{number}" for number in range(6)]
WEIGHTS = st.lists(st.floats(0.01, 1), min_size=2, max_size=6)
SOURCES = st.text(max_size=20)


def shares_of(weights: list[float]) -> dict[str, float]:
    return {name: weight / math.fsum(weights) for name, weight in zip(NAMES, weights, strict=False)}


@given(WEIGHTS, st.integers(0, 2**63 - 1), SOURCES, st.integers(0, 2**40))
def test_every_record_is_in_one_share(weights, seed, source, first):
    records_R = first + np.arange(500)
    taken = [share.takes("de", source, records_R) for share in divide(shares_of(weights), seed).values()]
    assert (np.sum(taken, 0) == 1).all()


@given(WEIGHTS, st.integers(0, 2**63 - 1), SOURCES)
def test_each_share_has_about_its_part(weights, seed, source):
    count = 20_000
    shares = shares_of(weights)
    for name, share in divide(shares, seed).items():
        deviation = math.sqrt(shares[name] * (1 - shares[name]) / count)
        assert abs(share.takes("de", source, np.arange(count)).mean() - shares[name]) < 6 * deviation


@given(st.lists(st.integers(0, 300), max_size=8), st.integers(0, 99))
def test_how_records_are_cut_does_not_matter(cuts, seed):
    for share in divide({"a": 0.7, "b": 0.3}, seed).values():
        whole = share.takes("de", "x.txt", np.arange(300))
        parts = [share.takes("de", "x.txt", part) for part in np.split(np.arange(300), sorted(cuts))]
        assert (np.concatenate(parts) == whole).all()


def splitmix64(state: int) -> float:
    """The published generator, with Python's integers."""
    mask = 2**64 - 1
    x = (state + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return ((x ^ (x >> 31)) >> 11) / 2**53


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_a_record_goes_where_its_hash_lies(seed):
    """Computed independently; a different result would change the rows of existing runs."""
    key = int.from_bytes(hashlib.sha256(f"{seed}:share:de:a/b.txt".encode()).digest()[:8], "little")
    numbers = [splitmix64((key + record * 0x9E3779B97F4A7C15) % 2**64) for record in range(200)]
    shares = divide({"a": 0.5, "b": 0.2, "c": 0.3}, seed)
    for name, low, high in (("a", 0, 0.5), ("b", 0.5, 0.7), ("c", 0.7, 1)):
        expected = [low <= number < high for number in numbers]
        assert shares[name].takes("de", "a/b.txt", np.arange(200)).tolist() == expected


def test_seed_language_and_file_decide():
    share = divide({"a": 0.5, "b": 0.5}, 0)["a"]
    taken = share.takes("de", "x.txt", np.arange(200))
    for other in (
        share.takes("fr", "x.txt", np.arange(200)),
        share.takes("de", "y.txt", np.arange(200)),
        divide({"a": 0.5, "b": 0.5}, 1)["a"].takes("de", "x.txt", np.arange(200)),
    ):
        assert 50 < (taken != other).sum() < 150


def test_a_share_may_get_no_record(pipeline_settings, tmp_path):
    """If a text has a single record, one of two teachers gets nothing, and its file has no rows."""
    from pipeline.job.launcher import run_pipeline

    (tmp_path / "en.txt").write_text("the river writes a 1999 song.\n")
    settings = pipeline_settings(tmp_path / "p", top_k=0)
    teachers = {
        name: settings["teachers"][name] | {"languages": {"en": 0.5}} for name in ("en-wordpiece", "ru-unigram")
    }
    settings |= {"teachers": teachers, "text": {"en": [str(tmp_path / "en.txt")]}}
    manifest = run_pipeline(PipelineConfig.model_validate(settings), [])
    assert sorted((record.records, record.rows) for record in manifest.languages) == [(0, 0), (1, 1)]
    assert len(open_predictions(str(tmp_path / "p")).teacher_names) == 1
