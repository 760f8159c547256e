"""The ranking for one language, on scores whose order is known."""

import numpy as np
import pytest

from tests.support.candidates import measured
from trainer.evaluation.comparison.ranking import Measured, rank
from trainer.evaluation.comparison.reasons import reasons
from trainer.evaluation.tasks.task import Ratio

SAMPLES = 200


def names(ranking):
    return [candidate.name for candidate in ranking.candidates]


def test_fewer_bits_rank_first():
    ranking = rank("de", [measured("c", 0.4), measured("a", 0.0), measured("b", 0.2)], SAMPLES)
    assert names(ranking) == ["a", "b", "c"]
    assert [candidate.rank for candidate in ranking.candidates] == [1, 2, 3]
    assert ranking.chosen == "a" and ranking.tied == []
    assert ranking.candidates[2].worse_than == ["a", "b"]


def test_differences_are_paired():
    """Each model's interval is wide because records differ; the interval of the difference is narrow."""
    first, second = rank("de", [measured("a", 0.0), measured("b", 0.03)], SAMPLES).candidates
    assert first.high > second.low
    assert second.differences["bits_per_character"].is_clear
    assert second.beside == "a" and first.beside == "b"
    assert second.differences["bits_per_character"].value == pytest.approx(0.03, abs=0.01)
    assert first.differences["bits_per_character"].value == -second.differences["bits_per_character"].value


def test_differences_beside_plain_resampling():
    one, other = measured("a", 0.0), measured("b", 0.03)
    candidate = rank("de", [one, other], 4000).candidates[1]
    (n1, d1), (n2, d2) = (
        (x.ratios["bits_per_character"].numerators_U, x.ratios["bits_per_character"].denominators_U)
        for x in (other, one)
    )
    generator = np.random.default_rng(9)
    drawn = [
        n1[i].sum() / d1[i].sum() - n2[i].sum() / d2[i].sum()
        for i in (generator.integers(len(n1), size=len(n1)) for _ in range(4000))
    ]
    difference = candidate.differences["bits_per_character"]
    assert (difference.low, difference.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=1e-3)


def test_copies_are_tied_and_the_first_is_taken():
    ranking = rank("de", [measured("a"), measured("b"), measured("c", 0.5)], SAMPLES)
    assert ranking.chosen == "a" and ranking.tied == ["b"]
    assert [candidate.rank for candidate in ranking.candidates] == [1, 1, 3]


def test_of_equals_the_cheaper_is_taken():
    ranking = rank("de", [measured("a"), measured("b", operations=50.0)], SAMPLES)
    assert ranking.chosen == "b" and ranking.tied == ["a"]


def test_a_cheaper_one_is_not_taken_when_it_is_worse():
    assert rank("de", [measured("a"), measured("b", 0.1, operations=1.0)], SAMPLES).chosen == "a"


def test_who_does_not_read_the_language_is_not_ranked():
    """Unknown tokens are easy to predict, so bits alone would rank the model first."""
    ranking = rank("de", [measured("blind", -2.0, unknown=0.9), measured("a")], SAMPLES)
    assert names(ranking) == ["a", "blind"]
    assert ranking.chosen == "a" and ranking.candidates[1].rank is None
    nobody = rank("de", [measured("blind", unknown=0.9)], SAMPLES)
    assert nobody.chosen is None and nobody.tied == []


def test_who_has_nothing_to_predict_is_not_ranked():
    """All tokens are unknown, but white space, which is in none, is the larger share of the characters."""
    blind = measured("b", -1, unknown=0.4)
    figures = {key: value for key, value in blind.figures.items() if not key.startswith("operations")}
    ranking = rank("de", [measured("a"), Measured("b", blind.ratios, figures)], SAMPLES)
    assert ranking.chosen == "a" and ranking.candidates[1].rank is None
    assert "does not read" in reasons(ranking.candidates[1], ranking)[0]


def test_who_has_less_to_predict_is_not_clearly_better():
    ranking = rank("de", [measured("uncased", changed=0.04), measured("cased", 0.5), measured("bad", 0.9)], SAMPLES)
    assert {one.name: one.worse_than for one in ranking.candidates} == {"uncased": [], "cased": [], "bad": ["cased"]}
    assert ranking.chosen == "uncased" and ranking.tied == ["cased"]
    # A few changed characters, or the same share for both, make no difference.
    for shares in ((0.004, 0.0), (0.04, 0.04)):
        one, other = (measured(*args, changed=share) for args, share in zip((("a",), ("b", 0.5)), shares, strict=True))
        assert rank("de", [one, other], SAMPLES).candidates[1].worse_than == ["a"]


def test_who_has_less_to_predict_and_is_worse_at_that_is_worse():
    ranking = rank("de", [measured("uncased", 0.5, operations=1, changed=0.04), measured("cased")], SAMPLES)
    assert ranking.chosen == "cased" and ranking.candidates[1].worse_than == ["cased"]


def test_one_record_decides_nothing():
    one, other = measured("a", records=1), measured("b", 1.0, records=1)
    ranking = rank("de", [one, other], SAMPLES)
    assert ranking.chosen == "a" and ranking.tied == ["b"]


def test_candidates_are_compared_on_the_same_records_only():
    other = measured("b")
    short = {key: Ratio(r.numerators_U[:-1], r.denominators_U[:-1]) for key, r in other.ratios.items()}
    with pytest.raises(ValueError, match="different numbers of units"):
        rank("de", [measured("a"), type(other)("b", short, other.figures)], SAMPLES)


def test_the_same_scores_give_the_same_ranking():
    candidates = [measured("a"), measured("b", 0.01), measured("c", 0.02)]
    assert rank("de", candidates, SAMPLES) == rank("de", candidates, SAMPLES)
    assert rank("de", candidates, SAMPLES, seed=1) != rank("de", candidates, SAMPLES)


def test_no_candidates_no_choice():
    assert rank("de", [], SAMPLES).chosen is None


def test_with_too_few_records_the_fewest_bits_are_taken_not_the_cheapest():
    """With five records the permutation test cannot be significant, so the cheap one may be far worse."""
    cheap = measured("b", 0.5, records=5, operations=10)
    ranking = rank("de", [cheap, measured("a", records=5)], SAMPLES)
    assert ranking.candidates[1].differences["bits_per_character"].p > 0.05
    assert not ranking.has_enough_records and ranking.chosen == "a" and ranking.tied == ["b"]
    assert rank("de", [measured("b", records=6, operations=10), measured("a", records=6)], SAMPLES).chosen == "b"
