"""Reasons agree with the figures."""

from tests.support.candidates import measured
from trainer.evaluation.comparison.ranking import Measured, rank
from trainer.evaluation.comparison.reasons import reasons


def said(*candidates):
    ranking = rank("de", list(candidates), 200)
    return {candidate.name: reasons(candidate, ranking) for candidate in ranking.candidates}


def test_a_clear_difference_is_told_from_both_sides():
    text = said(measured("a"), measured("b", 0.2))
    assert text["a"] == [text["b"][0].replace("worse than a", "better than b")]
    assert text["b"][0].startswith("0.19") or text["b"][0].startswith("0.20")
    assert text["b"][0].endswith("] bits per character worse than a")


def test_equal_ones_say_what_decides():
    text = said(measured("a"), measured("b"))
    beginning = "no clear difference from {}: +0.000 [+0.000, +0.000] bits per character, p = 1, at equal cost; "
    assert text["a"] == [beginning.format("b") + "taken because it comes first in the configuration"]
    assert text["b"] == [beginning.format("a") + "not taken because it comes later in the configuration"]
    text = said(measured("a"), measured("b", operations=80))
    assert text["b"][0].endswith("taken because it costs less: 0.80 times the operations per byte")
    assert text["a"][0].endswith("not taken because it costs more: 1.25 times the operations per byte")


def test_too_few_records_are_named():
    text = said(measured("a", records=5), measured("b", 0.5, records=5, operations=10))
    assert text["a"][0].endswith("which too few records cannot make clear; taken because it has fewer bits")
    assert text["b"][0].endswith("which too few records cannot make clear; not taken because it has more bits")


def test_equal_ones_say_what_else_differs():
    text = said(measured("a", pairs=0.8), measured("b", pairs=0.9))
    assert text["a"][1] == "minimal pairs: 0.800, b 0.900"
    assert text["b"][1] == "minimal pairs: 0.900, a 0.800"


def test_minimal_pairs_that_say_the_opposite_are_named():
    text = said(measured("a", pairs=0.6), measured("b", 0.2, pairs=0.9))
    assert text["a"][1:] == ["minimal pairs: 0.600, b 0.900"]


def test_unknown_characters_are_named():
    text = said(measured("a"), measured("b", 0.5, unknown=0.08), measured("c", unknown=0.75))
    assert text["b"][1] == "8.0% of the characters are in unknown tokens, which it neither predicts nor teaches"
    assert text["c"] == ["does not read the language: 75% of the characters are in unknown tokens"]


def test_a_tokenizer_that_changes_the_text_is_named():
    text = said(measured("a", changed=0.04), measured("b", 0.5, changed=0.001))
    assert text["a"][-1].startswith("its tokenizer changes 4.0% of the characters")
    assert not any("lower case, no accents" in reason for reason in text["b"])


def test_no_verdict_where_one_has_less_to_predict():
    text = said(measured("uncased", changed=0.04), measured("cased", 0.5, operations=50, changed=0.001))
    beginning = "no verdict against {}: 0.5"
    assert text["cased"][0].startswith(beginning.format("uncased"))
    assert text["cased"][0].endswith(
        "bits per character worse, but the tokenizer of uncased changes 4.0% of the characters, which this candidate (0.1%) has to "
        "predict; taken because it costs less: 0.50 times the operations per byte"
    )
    assert text["uncased"][0].startswith(beginning.format("cased"))
    assert text["uncased"][0].endswith(
        "bits per character better, but its tokenizer changes 4.0% of the characters, which cased (0.1%) has to predict; not "
        "taken because it costs more: 2.00 times the operations per byte"
    )


def test_one_candidate_among_blind_ones():
    assert said(measured("a")) == {"a": ["the only candidate"]}
    assert said(measured("blind", unknown=1.0), measured("a"))["a"] == ["the only candidate that reads the language"]


def test_worse_than_another_of_the_best_is_said():
    """`a` differs from the others by chance in each record and is chosen for its cost; `c` is clearly worse than b."""
    by_chance = measured("b").ratios | {
        "bits_per_character": measured("a", 0.001, spread=1.0).ratios["bits_per_character"]
    }
    ranking = rank(
        "de", [Measured("a", by_chance, measured("a", operations=1).figures), measured("b"), measured("c", 0.02)], 200
    )
    assert (ranking.chosen, ranking.tied, ranking.candidates[2].worse_than) == ("a", ["b"], ["b"])
    assert reasons(ranking.candidates[2], ranking)[0].startswith("no clear difference from a")
    assert reasons(ranking.candidates[2], ranking)[0].endswith("but clearly worse than b")
