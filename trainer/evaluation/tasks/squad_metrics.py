"""F1 and exact match of answers, as SQuAD's evaluation defines them (Rajpurkar et al. 2016, section 6.1; v2: 2018)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """Returns the answer in lower case, without ASCII punctuation, English articles and extra white space."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(given: str, answers: Sequence[str]) -> float:
    """Returns 1 if it is one of the right answers, or is empty when there are none; else 0."""
    return max(float(normalized(given) == normalized(answer)) for answer in answers or [""])


def f1(given: str, answers: Sequence[str]) -> float:
    """Returns the best F1 over words with any right answer; if there is none, the same as `exact_match`."""
    return max(_f1(normalized(given).split(), normalized(answer).split()) for answer in answers or [""])


def _f1(given: list[str], right: list[str]) -> float:
    if not given or not right:
        return float(given == right)
    common = sum((Counter(given) & Counter(right)).values())
    return 2 * common / (len(given) + len(right))
