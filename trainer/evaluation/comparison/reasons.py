"""Explains in words why a candidate has its place."""

from trainer.evaluation.comparison.ranking import MANY, RANKED_BY, Candidate, Ranking, is_easier
from trainer.evaluation.statistics import Difference

# The title of each figure, and the decimals that tell candidates apart.
TITLES = {
    "bits_per_character": ("bits per character", 3),
    "minimal_pairs": ("minimal pairs", 3),
    "tokens_per_word": ("tokens per word", 2),
    "whole_words": ("words kept whole", 3),
    "unknown_rate": ("unknown characters", 3),
    "tail_mass": ("tail mass", 3),
    "tokens_per_second": ("tokens/s", 0),
    "operations_per_byte": ("operations per byte", 0),
    "hours": ("estimated hours", 1),
}


def reasons(candidate: Candidate, ranking: Ranking) -> list[str]:
    """Returns why a candidate is chosen or not: first how well it predicts, then its other differences."""
    unknown = candidate.figures["unknown_rate"]
    if not candidate.reads:
        return [f"does not read the language: {unknown:.0%} of the characters are in unknown tokens"]
    said = []
    if candidate.beside:
        other = next(other for other in ranking.candidates if other.name == candidate.beside)
        said.append(
            _prediction(candidate, other, ranking) if other.reads else "the only candidate that reads the language"
        )
        if other.reads:
            said += _others(candidate, other)
    if unknown >= MANY:
        said.append(f"{unknown:.1%} of the characters are in unknown tokens, which it neither predicts nor teaches")
    if (changed := candidate.figures["changed_characters"]) >= MANY:
        said.append(
            f"its tokenizer changes {changed:.1%} of the characters (lower case, no accents), which makes its text easier to predict"
        )
    return said or ["the only candidate"]


def _prediction(candidate: Candidate, other: Candidate, ranking: Ranking) -> str:
    difference = candidate.differences[RANKED_BY]
    if _is_decided(candidate, other):
        return f"{_amount(difference)} than {other.name}"
    interval = f"[{difference.low:+.3f}, {difference.high:+.3f}]"
    said = f"no clear difference from {other.name}: {difference.value:+.3f} {interval} bits per character, p = {difference.p:.2g}"
    if difference.is_clear:
        said = f"no verdict against {other.name}: {_amount(difference)}, but {_easier(candidate, other)}"
    if candidate.worse_than:
        return f"{said}, but clearly worse than {', '.join(candidate.worse_than)}"
    if other.worse_than:
        return f"{said}, but that is clearly worse than {', '.join(other.worse_than)}"
    # Both are among the best, and one of them is chosen.
    is_taken = candidate.name == ranking.chosen
    if not ranking.has_enough_records:
        why = "taken because it has fewer bits" if is_taken else "not taken because it has more bits"
        return f"{said}, which too few records cannot make clear; {why}"
    cost = candidate.figures["operations_per_byte"] / other.figures["operations_per_byte"]
    if cost == 1:
        why = "taken because it comes first" if is_taken else "not taken because it comes later"
        return f"{said}, at equal cost; {why} in the configuration"
    why = "taken because it costs less" if is_taken else "not taken because it costs more"
    return f"{said}; {why}: {cost:.2f} times the operations per byte"


def _others(candidate: Candidate, other: Candidate) -> list[str]:
    """Returns other figures that clearly differ: any of them if the prediction is undecided, else only minimal pairs."""
    keys = [key for key in candidate.differences if key != RANKED_BY]
    if _is_decided(candidate, other):
        keys = [key for key in keys if key == "minimal_pairs"]
    return [
        f"{TITLES[key][0]}: {candidate.figures[key]:.3f}, {other.name} {other.figures[key]:.3f}"
        for key in keys
        if candidate.differences[key].is_clear
    ]


def _is_decided(candidate: Candidate, other: Candidate) -> bool:
    return candidate.name in other.worse_than or other.name in candidate.worse_than


def _easier(candidate: Candidate, other: Candidate) -> str:
    """Returns why the bits per character of two candidates decide nothing, whatever their difference."""
    shares = [f"{one.figures['changed_characters']:.1%}" for one in (candidate, other)]
    if is_easier(candidate.figures, other.figures):
        return f"its tokenizer changes {shares[0]} of the characters, which {other.name} ({shares[1]}) has to predict"
    return f"the tokenizer of {other.name} changes {shares[1]} of the characters, which this candidate ({shares[0]}) has to predict"


def _amount(difference: Difference) -> str:
    better = difference.value < 0
    ends = (-difference.high, -difference.low) if better else (difference.low, difference.high)
    return f"{abs(difference.value):.3f} [{ends[0]:.3f}, {ends[1]:.3f}] bits per character {'better' if better else 'worse'}"
