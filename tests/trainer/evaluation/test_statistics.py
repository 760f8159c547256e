"""Intervals and paired tests, compared with plain loops and on data whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from trainer.evaluation.statistics import Difference, interval, mean_over_seeds, paired
from trainer.evaluation.tasks.task import Ratio


def ratio(generator, units, rate=0.7, difficulty_U=None):
    """The correct words of sentences with 1 to 20 words."""
    words_U = generator.integers(1, 21, units)
    chance_U = np.clip(rate + (0 if difficulty_U is None else difficulty_U), 0, 1)
    return Ratio(generator.binomial(words_U, chance_U).astype(float), words_U.astype(float))


def test_an_interval_is_that_of_a_plain_loop():
    scores = ratio(np.random.default_rng(0), 300)
    drawn = np.random.default_rng(1)
    values = []
    for _ in range(20_000):
        chosen = drawn.integers(300, size=300)
        values.append(scores.numerators_U[chosen].sum() / scores.denominators_U[chosen].sum())
    # With so many units, the expanded percentiles differ little from the plain ones.
    assert interval(scores, 20_000, 2) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=7e-4)


# Documents of quite different difficulty. Of few, the intervals are still a little too narrow: 0.93 for 6 units, where
# plain percentiles give 0.85. Three standard errors are 0.02.
@pytest.mark.parametrize("units", [6, 25, 200])
def test_intervals_hold_the_truth_in_95_of_100_cases(units):
    generator = np.random.default_rng(units)
    cases = [ratio(generator, units, 0.7, generator.uniform(-0.2, 0.2, units)) for _ in range(1000)]
    holds = [low <= 0.7 <= high for low, high in (interval(scores, 1000, seed) for seed, scores in enumerate(cases))]
    assert 0.91 <= np.mean(holds) <= 0.971


@pytest.mark.parametrize("units", [6, 200])
def test_intervals_of_a_difference_hold_the_truth_in_95_of_100_cases(units):
    generator = np.random.default_rng(units + 1)
    holds = []
    for seed in range(1000):
        difficulty_U = generator.normal(0, 0.1, units)
        first, second = (ratio(generator, units, rate, difficulty_U) for rate in (0.6, 0.5))
        difference = paired(first, second, 1000, seed)
        holds.append(difference.low <= 0.1 <= difference.high)
    assert 0.91 <= np.mean(holds) <= 0.971


def test_p_values_are_uniform_where_models_are_alike_and_small_where_they_are_not():
    generator = np.random.default_rng(2)
    alike = []
    for seed in range(1000):
        difficulty_U = generator.normal(0, 0.1, 100)
        alike.append(paired(*(ratio(generator, 100, 0.6, difficulty_U) for _ in range(2)), 500, seed).p)
    assert stats.kstest(alike, "uniform").pvalue > 0.01
    unlike = paired(ratio(generator, 500, 0.7), ratio(generator, 500, 0.6), 500, 0)
    assert unlike.p == 1 / 501 and unlike.low > 0 and unlike.is_clear


def test_a_p_value_is_that_of_scipy():
    generator = np.random.default_rng(3)
    first, second = ratio(generator, 60, 0.64), ratio(generator, 60, 0.6)
    numerators = np.concatenate([first.numerators_U, second.numerators_U])
    denominators = np.concatenate([first.denominators_U, second.denominators_U])

    def difference(one, other, axis):
        values = [numerators[index].sum(axis) / denominators[index].sum(axis) for index in (one, other)]
        return values[0] - values[1]

    expected = stats.permutation_test(
        (np.arange(60), np.arange(60) + 60), difference, permutation_type="samples", vectorized=True,
        n_resamples=20_000, rng=4,
    )  # fmt: skip
    assert paired(first, second, 20_000, 5).p == pytest.approx(expected.pvalue, abs=0.015)


def test_equal_models_do_not_differ():
    scores = ratio(np.random.default_rng(0), 50)
    assert paired(scores, scores, 100, 0) == Difference(0, 0, 0, 1)


@pytest.mark.parametrize("seed", range(30))
def test_a_model_without_a_hit_has_the_same_p_value_from_either_side(seed):
    """Exchanges that tie may differ from the difference by a rounding error, even if one of the values is exactly 0."""
    generator = np.random.default_rng(seed)
    hits_U = np.zeros(200)
    hits_U[generator.choice(200, 5, replace=False)] = generator.choice([1 / 3, 2 / 3, 1], 5)
    none, few = Ratio(np.zeros(200), np.ones(200)), Ratio(hits_U, np.ones(200))
    # Two of the 2^5 exchanges of units with a hit give as large a difference.
    assert paired(none, few, 1000, 0).p == paired(few, none, 1000, 0).p == pytest.approx(2 / 32, abs=0.03)


def test_results_are_functions_of_the_seed():
    first, second = (ratio(np.random.default_rng(seed), 1000) for seed in range(2))
    assert paired(first, second, 3000, 7) == paired(first, second, 3000, 7) != paired(first, second, 3000, 8)


def test_the_mean_over_seeds_is_the_mean_of_values_and_as_sure_as_its_units():
    generator = np.random.default_rng(0)
    words_U = np.full(400, 10.0)
    correct_U = generator.binomial(10, 0.7, 400).astype(float)
    # Three runs that agree in each unit are no more certain than one.
    same = mean_over_seeds([Ratio(correct_U, words_U)] * 3)
    assert interval(same, 1000, 0) == interval(Ratio(correct_U, words_U), 1000, 0)
    runs = [Ratio(generator.binomial(10, rate, 400).astype(float), words_U) for rate in (0.5, 0.6, 0.7)]
    assert mean_over_seeds(runs).value == pytest.approx(np.mean([run.value for run in runs]))


def test_other_units_are_refused():
    generator = np.random.default_rng(0)
    first, second = ratio(generator, 5), ratio(generator, 6)
    for compare in (lambda: paired(first, second, 100, 0), lambda: mean_over_seeds([first, second])):
        with pytest.raises(ValueError, match=r"different numbers of units: \[5, 6\]"):
            compare()
    with pytest.raises(ValueError, match="different numbers of units: \\[\\]"):
        mean_over_seeds([])


def test_drawings_without_denominators_are_left_out():
    rare = Ratio(np.array([1.0, 0, 0]), np.array([2.0, 0, 0]))
    assert interval(rare, 200, 0) == (0.5, 0.5)
    assert np.isnan(interval(Ratio(np.ones(1), np.ones(1)), 200, 0)).all()
    assert np.isnan(interval(Ratio(np.zeros(4), np.zeros(4)), 200, 0)).all()
