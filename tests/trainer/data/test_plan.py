"""Plans of pools, compared with a naive loop over single rows."""

import zlib
from itertools import count, islice

import numpy as np
import pytest

from schemas.predictions import open_predictions
from trainer.config import SamplingConfig
from trainer.data.plan import make_mixture, plan_pool

SEED = 11


def rows_of(opened, language: str, lane: int, lanes: int):
    """Yields (file, row group, row) of a language in a lane, one after the other, without end; written naively."""
    groups = [(f, g) for f in opened.files for g in range(len(f.record.row_groups)) if f.record.language == language]
    for number in count(lane, lanes):
        epoch, index = number // len(groups), number % len(groups)
        order = np.random.default_rng([SEED, zlib.crc32(language.encode()), epoch]).permutation(len(groups))
        file, group = groups[order[index]]
        for row in range(file.record.row_groups[group]):
            yield file.url, group, row


def planned(opened, sampling: SamplingConfig, lane: int, lanes: int, pools: int) -> list[list[tuple]]:
    """The rows of a lane's first pools, according to the planner."""
    mixture = make_mixture(opened, sampling, SEED, lanes)
    positions, result = mixture.first_positions(lane), []
    for number in range(pools):
        plan = plan_pool(mixture, lane, number, positions)
        positions = plan.positions
        pieces = [(opened.files[p.row_group.file].url, p.row_group.group, p.rows) for p in plan.pieces]
        result.append([(url, group, row) for url, group, rows in pieces for row in range(rows.start, rows.stop)])
    return result


@pytest.mark.parametrize("lane", [0, 1, 2])
@pytest.mark.parametrize(("pool_rows", "languages"), [(1, None), (37, None), (500, ["hi", "ru"])])
def test_pools_are_the_next_rows_of_each_language(predictions, lane, pool_rows, languages):
    opened = open_predictions(str(predictions))
    names = languages or opened.language_names
    # Counted in rows: alpha = 1 draws languages by their masked positions, so every row has the same chance.
    totals = [sum(f.record.rows for f in opened.files if f.record.language == name) for name in names]
    streams = [rows_of(opened, name, lane, 3) for name in names]
    sampling = SamplingConfig(alpha=1, shuffle_rows=pool_rows, languages=languages)
    for number, pool in enumerate(planned(opened, sampling, lane, 3, 20)):
        random = np.random.default_rng([SEED, lane, number])
        counts = random.multinomial(pool_rows, np.array(totals) / sum(totals))
        assert pool == [row for rows, stream in zip(counts, streams, strict=True) for row in islice(stream, rows)]


def test_shares_are_those_of_masked_positions_to_the_power_alpha(predictions):
    opened = open_predictions(str(predictions))
    mixture = make_mixture(opened, SamplingConfig(alpha=0.3), SEED, 1)
    files = [file.record for file in opened.files]
    rows = np.array([sum(f.rows for f in files if f.language == name) for name in mixture.languages])
    positions = np.array([sum(f.masked_positions for f in files if f.language == name) for name in mixture.languages])
    # The masked positions of the drawn rows, on average.
    drawn = mixture.row_shares * positions / rows
    np.testing.assert_allclose(drawn / drawn.sum(), positions**0.3 / (positions**0.3).sum(), rtol=1e-12)
    assert mixture.row_shares.sum() == pytest.approx(1)


def test_a_plan_is_a_function_of_its_arguments(predictions):
    opened = open_predictions(str(predictions))
    mixture = make_mixture(opened, SamplingConfig(shuffle_rows=100), SEED, 2)
    positions = mixture.first_positions(1)
    first = plan_pool(mixture, 1, 0, positions)
    # In between, another lane plans far ahead.
    plan_pool(mixture, 0, 7, dict.fromkeys(mixture.languages, (200, 0)))
    again = plan_pool(mixture, 1, 0, positions)
    assert (first.pieces, first.positions) == (again.pieces, again.positions)
    assert positions == mixture.first_positions(1) and first.random.random() == again.random.random()
