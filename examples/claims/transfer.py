"""Claim 5: models that are fine-tuned on the tags of one language and tested in another.

Every model reads both languages with one tokenizer: a student with its default one, a teacher with the only one that it has.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from statistics import mean

from examples.claims.evaluated import Claim, Evaluated
from examples.claims.plan import RELATED, SEVERAL, STUDENTS, TAGGERS, TRANSFER
from schemas.tables import format_table
from trainer.evaluation.formats.labelled_words import Sentence, read_sentences


def transfer_claims(root: Path) -> list[Claim]:
    """Compares students with the monolingual teachers, and related languages with the others."""
    evaluated = Evaluated(root, TRANSFER)
    claims = [
        _ahead("related: the start student", evaluated, "start", RELATED),
        _ahead("related: the random student", evaluated, "random", RELATED),
        _ahead("several teachers: the student", evaluated, "several", list(SEVERAL)),
    ]

    def share(source: str, target: str) -> float:
        return _accuracy(evaluated, "several", source, target) / _accuracy(evaluated, "several", target, target)

    shares = {crossing: share(*crossing) for crossing in permutations(SEVERAL, 2)}
    near = mean(value for crossing, value in shares.items() if "en" not in crossing)
    far = mean(value for crossing, value in shares.items() if "en" in crossing)
    claims.append(
        Claim(
            "5: tagging crosses between Spanish and French better than between either and English (one student)",
            "a larger share of the accuracy that training in the tested language gives",
            f"{near:.3f} beside {far:.3f}",
            near > far,
        )
    )
    return claims


def transfer_table(root: Path) -> list[str]:
    """Returns the accuracy of all models and of looking words up."""
    evaluated = Evaluated(root, TRANSFER)
    words = {
        (language, split): read_sentences([str(root / "labels" / language / f"tags-{split}.tsv")])
        for language in SEVERAL
        for split in ("train", "test")
    }
    rows = []
    for source, target in permutations(SEVERAL, 2):
        are_related = {source, target} <= set(RELATED)
        accuracies = [_accuracy(evaluated, name, source, target) if are_related else None for name in STUDENTS]
        accuracies += [_accuracy(evaluated, name, source, target) for name in ("several", source)]
        accuracies.append(lookup_accuracy(words[source, "train"], words[target, "test"]))
        rows.append([f"{source}→{target}", *("-" if value is None else f"{value:.3f}" for value in accuracies)])
    heads = ["start", "random", "MLM start", "MLM random", "several teachers", "teacher", "lookup"]
    by_language = Evaluated(root, "related-tagging")
    separate = [
        [f"{source}→{target}", *(f"{_accuracy(by_language, name, source, target):.3f}" for name in TAGGERS)]
        for source, target in permutations(RELATED, 2)
    ]
    return [
        format_table(["tags", *heads], rows, is_markdown=True),
        "",
        "*several teachers*: the student of overlapping teachers. *teacher*: of the language of the tags. *lookup*: no model; "
        "a word has the tag that it most often has where it was trained, another word the commonest tag there. The students "
        "read both languages with their default tokenizer. With the tokenizer of each language's teacher, words that two "
        "languages share often become different tokens:",
        "",
        format_table(["tags", *heads[: len(TAGGERS)]], separate, is_markdown=True),
    ]


def lookup_accuracy(train: list[Sentence], test: list[Sentence]) -> float:
    """Returns the accuracy of giving each word its most frequent tag in `train`, or that of all words if it is unknown."""
    of_word: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for word, tag in _tagged(train):
        of_word[word][tag] += 1
    of_all = sum(of_word.values(), Counter[str]())
    return mean(of_word.get(word, of_all).most_common(1)[0][0] == tag for word, tag in _tagged(test))


def _tagged(sentences: list[Sentence]) -> Iterator[tuple[str, str]]:
    for sentence in sentences:
        yield from ((word, tag) for word, tag in zip(sentence.words, sentence.labels, strict=True) if tag is not None)


def _ahead(title: str, evaluated: Evaluated, student: str, languages: list[str]) -> Claim:
    crossings = list(permutations(languages, 2))
    models = {source: (student, source) for source in languages}
    compared = [
        evaluated.compared("tagging", "accuracy", models[source], target, source) for source, target in crossings
    ]
    return Claim(
        f"5, {title} with tags of one language, tested in another",
        "ahead of each monolingual teacher",
        ", ".join(
            f"{source}→{target} {_accuracy(evaluated, student, source, target):.3f} / "
            f"{_accuracy(evaluated, source, source, target):.3f} (p {difference.p:.3f})"
            for (source, target), difference in zip(crossings, compared, strict=True)
        ),
        all(difference.value > 0 for difference in compared),
        tuple(
            f"{source}→{target}"
            for (source, target), difference in zip(crossings, compared, strict=True)
            if not difference.is_clear
        ),
    )


def _accuracy(evaluated: Evaluated, model: str, source: str, target: str) -> float:
    return evaluated.value("tagging", "accuracy", model, target, source)
