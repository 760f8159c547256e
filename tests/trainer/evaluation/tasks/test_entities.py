"""Entities, compared with seqeval."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score

from schemas.errors import UserError
from tests.support.labelled import NOUNS, evaluation, make_learner, run_task, tagged, write_tsv
from trainer.evaluation.formats.labelled_words import Sentence
from trainer.evaluation.tasks.entities import EntityRecognition

LABEL = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
PAIRS = st.lists(st.lists(st.tuples(LABEL, LABEL), min_size=1, max_size=8), min_size=1, max_size=6)


@given(PAIRS)
def test_f1_is_that_of_seqeval(pairs):
    true = [[label for label, _ in sentence] for sentence in pairs]
    predicted = [[label for _, label in sentence] for sentence in pairs]
    sentences = [Sentence(["x"] * len(labels), labels, "a.tsv", [1] * len(labels)) for labels in true]
    ratio = EntityRecognition.ratios(None, sentences, predicted)["f1"]
    if ratio.denominators_U.sum():
        assert ratio.value == pytest.approx(f1_score(true, predicted, zero_division=0), abs=1e-12)
    else:
        assert {label for sentence in true + predicted for label in sentence} == {"O"}


def test_a_stray_inside_begins_an_entity():
    sentences = [Sentence(["a", "b", "c"], ["O", "I-PER", "I-LOC"], "a.tsv", [1, 2, 3])]
    ratio = EntityRecognition.ratios(None, sentences, [["O", "B-PER", "O"]])["f1"]
    assert (ratio.numerators_U.tolist(), ratio.denominators_U.tolist()) == ([2], [3])


def test_words_that_were_not_seen_are_outside():
    sentences = [Sentence(["a", "b", "c"], ["B-PER", "I-PER", "B-LOC"], "a.tsv", [1, 2, 3])]
    ratio = EntityRecognition.ratios(None, sentences, [["B-PER", "I-PER", None]])["f1"]
    assert (ratio.numerators_U.tolist(), ratio.denominators_U.tolist()) == ([2], [3])


def entities(count: int, seed: int) -> list[list[tuple[str, str]]]:
    """Sentences in which nouns are entities of one word, or of two if a noun follows."""
    result = []
    for sentence in tagged("en", count, seed):
        labels = []
        for word, _ in sentence:
            inside = labels and labels[-1].startswith("B-") and word in NOUNS["en"]
            labels.append("I-X" if inside else "B-X" if word in NOUNS["en"] else "O")
        result.append([(f"en:{word}", label) for (word, _), label in zip(sentence, labels, strict=True)])
    return result


@pytest.mark.heavy
def test_entities_are_learned(tmp_path, teachers):
    files = {use: write_tsv(tmp_path / use, entities(count, seed))
             for seed, (use, count) in enumerate([("train", 150), ("test", 40)])}  # fmt: skip
    model = make_learner(tmp_path / "model", teachers / "en-wordpiece")
    config = evaluation(tmp_path, models={"m": {"model": str(model)}}, entities={"en": files})
    scores = run_task(EntityRecognition, config, "m")["en"]
    assert scores.ratios["f1"].value > 0.6
    assert len(scores.ratios["f1"].numerators_U) == 40


def read(tmp_path, labels: str):
    (tmp_path / "a.tsv").write_text("\n".join(f"x\t{label}" for label in labels.split()) + "\n")
    return EntityRecognition.read([str(tmp_path / "a.tsv")])


def test_a_few_entities_without_a_beginning_are_let_pass(tmp_path):
    assert read(tmp_path, "O I-PER B-PER I-PER O B-LOC I-PER")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("O B-PER E-PER", "a.tsv:3: the label 'E-PER' is not IOB2"),
        ("O _", "a.tsv:2: the label '_' is not IOB2"),
        ("O NOUN", "a.tsv:2: the label 'NOUN' is not IOB2"),
        ("O I-PER I-PER O I-LOC B-LOC", "a.tsv:2: I-PER begins an entity, as in IOB1, as do 2 labels in all"),
    ],
)
def test_other_schemes_are_refused(tmp_path, labels, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, labels)


def test_test_files_without_an_entity_are_refused(tmp_path):
    files = {
        "train": write_tsv(tmp_path / "train.tsv", [[("sea", "B-X"), ("sings", "O")]]),
        "test": write_tsv(tmp_path / "test.tsv", [[("sings", "O")]]),
    }
    with pytest.raises(UserError, match=r"^entities\.en\.test: has only the label O, so there is no entity to find"):
        EntityRecognition.from_config(evaluation(tmp_path, models={"m": {"model": "x"}}, entities={"en": files}))
