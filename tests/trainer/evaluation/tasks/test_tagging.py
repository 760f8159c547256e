"""Tagging by fine-tuning and by a probe, compared with plain transformers; and what all tasks on labels share."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
)

from schemas.errors import UserError
from tests.support import world
from tests.support.labelled import evaluation, load_model, make_learner, make_student, run_task, tagged, write_tsv
from trainer.evaluation.config import LabelledConfig, ModelConfig
from trainer.evaluation.tasks.fine_tuning import fine_tune
from trainer.evaluation.tasks.tagging import Tagging, TaggingProbe
from trainer.evaluation.tasks.task import Job


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Training and test files of two languages, by language and use."""
    folder = tmp_path_factory.mktemp("tagging")
    return {
        language: {
            use: write_tsv(folder / f"{language}.{use}.tsv", tagged(language, count, seed))
            for seed, (use, count) in enumerate([("train", 120), ("test", 40)])
        }
        for language in ("en", "ru")
    }


@pytest.fixture
def config(tmp_path, teachers, files):
    model = make_learner(tmp_path / "model", teachers / "en-wordpiece")
    return evaluation(tmp_path, models={"en": {"model": str(model)}}, tagging=files)


def naive_scores(model, tokenizer, sentences, labels):
    """The number of right words in each sentence, one sentence at a time."""
    right = []
    for sentence in sentences:
        encoded = tokenizer(
            [word for word, _ in sentence], is_split_into_words=True, truncation=True, max_length=24,
            return_tensors="pt",
        )  # fmt: skip
        with torch.no_grad():
            chosen = model(**encoded).logits[0].argmax(-1)
        given = {}
        for position, word in enumerate(encoded.word_ids(0)):
            if word is not None and word not in given:
                given[word] = labels[chosen[position]]
        right.append(sum(given.get(word) == label for word, (_, label) in enumerate(sentence)))
    return right


@pytest.mark.heavy
def test_fine_tuned_accuracy_is_that_of_a_plain_loop(config, teachers):
    scores = run_task(Tagging, config, "en", "en")
    labels = ["NOUN", "PUNCT", "VERB"]
    tokenizer = AutoTokenizer.from_pretrained(teachers / "en-wordpiece")
    examples = []
    for sentence in tagged("en", 120, 0):
        encoded = tokenizer([word for word, _ in sentence], is_split_into_words=True, truncation=True, max_length=24)
        ids = encoded.word_ids()
        targets = [
            -100 if word is None or word in ids[:position] else labels.index(sentence[word][1])
            for position, word in enumerate(ids)
        ]
        examples.append({**encoded, "labels": targets})
    tuned = fine_tune(
        load_model(config, "en"), AutoModelForTokenClassification, examples,
        DataCollatorForTokenClassification(tokenizer), config.fine_tuning, 0, {"num_labels": 3},
    )  # fmt: skip
    for language in ("en", "ru"):
        sentences = tagged(language, 40, 1)
        ratio = scores[language].ratios["accuracy"]
        assert ratio.numerators_U.tolist() == naive_scores(tuned, tokenizer, sentences, labels)
        assert ratio.denominators_U.tolist() == [len(sentence) for sentence in sentences]
    assert scores["en"].ratios["accuracy"].value > 0.95


@pytest.mark.heavy
def test_a_student_is_trained_in_one_language_and_tested_in_all(tmp_path, teachers, files):
    config = evaluation(
        tmp_path, models={"student": {"model": str(make_student(tmp_path / "student", teachers))}}, tagging=files,
        fine_tuning={"epochs": 8},
    )  # fmt: skip
    scores = run_task(Tagging, config, "student", "ru")
    assert list(scores) == ["en", "ru"]
    # Each of three labels has a third of the words; the languages share only punctuation.
    assert scores["ru"].ratios["accuracy"].value > 0.8
    assert 0 < scores["en"].ratios["accuracy"].value < 0.8


@pytest.mark.parametrize("task", [Tagging, TaggingProbe])
@pytest.mark.heavy
def test_words_that_the_tokenizer_drops_count_as_wrong_and_long_sentences_do_not(tmp_path, teachers, files, task):
    test = write_tsv(tmp_path / "long.tsv", [[("river", "NOUN")] * 60 + [("", "NOUN")]])
    config = evaluation(
        tmp_path, models={"en": {"model": str(teachers / "en-wordpiece")}},
        tagging={"en": files["en"] | {"test": test}}, fine_tuning={"max_length": 12},
    )  # fmt: skip
    ratio = run_task(task, config, "en")["en"].ratios["accuracy"]
    assert (ratio.numerators_U.tolist(), ratio.denominators_U.tolist()) == ([60], [61])


def test_words_without_a_label_are_not_scored(config, tmp_path):
    test = write_tsv(tmp_path / "a.tsv", [[("river", "_"), ("sea", "NOUN")], [("sea", "_")]])
    task = TaggingProbe.from_config(config.model_copy(update={"tagging": {
        "en": config.tagging["en"].model_copy(update={"test": [test]})}}))  # fmt: skip
    ratio = task.ratios(task.test["en"], [["NOUN", "NOUN"], ["NOUN"]])["accuracy"]
    assert (ratio.numerators_U.tolist(), ratio.denominators_U.tolist()) == ([1, 0], [1, 0])


def probe_features(folder, sentences, layer):
    """The mean over each word's tokens, one sentence at a time."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    rows = []
    for sentence in sentences:
        encoded = tokenizer(
            [word for word, _ in sentence],
            is_split_into_words=True,
            truncation=True,
            max_length=24,
            return_tensors="pt",
        )
        with torch.no_grad():
            hidden = model(**encoded, output_hidden_states=True).hidden_states[layer][0]
        of_words = [[given == word for given in encoded.word_ids(0)] for word in range(len(sentence))]
        rows.extend(hidden[of_word].mean(0).numpy() for of_word in of_words)
    labels = np.array([label for sentence in sentences for _, label in sentence])
    return np.array(rows), labels


@pytest.mark.parametrize("name", ["en-wordpiece", "ru-unigram"])
def test_the_probe_is_a_logistic_regression_on_the_best_layer(tmp_path, teachers, name):
    language = world.TEACHERS[name]
    # Short enough not to be cut.
    train, test = ([sentence[:3] for sentence in tagged(language, *which)] for which in ((120, 0), (40, 1)))
    files = {language: {"train": write_tsv(tmp_path / "a", train), "test": write_tsv(tmp_path / "b", test)}}
    config = evaluation(tmp_path, models={name: {"model": str(teachers / name)}}, tagging=files)
    scores = run_task(TaggingProbe, config, name, language)[language].ratios["accuracy"]

    def right(fit, score, layer):
        fit_features, fit_labels = probe_features(teachers / name, fit, layer)
        features, labels = probe_features(teachers / name, score, layer)
        scaler = StandardScaler().fit(fit_features)
        classifier = LogisticRegression(max_iter=200).fit(scaler.transform(fit_features), fit_labels)
        return (classifier.predict(scaler.transform(features)) == labels).sum()

    rest = [sentence for number, sentence in enumerate(train) if number % 5]
    layer = max(range(3), key=lambda layer: right(rest, train[::5], layer))
    assert scores.numerators_U.sum() == right(train, test, layer)
    assert scores.value > 0.8


def trained_on(config, folder, sentences):
    """The configuration with sentences to train on and to test on, in English alone."""
    train = write_tsv(folder / "a.tsv", sentences)
    tagging = {"en": config.tagging["en"].model_copy(update={"train": [train], "test": [train]})}
    return config.model_copy(update={"tagging": tagging})


@pytest.mark.parametrize(
    "sentences",
    [
        # All sentences except the first fifth have the same label, or none, or no tokens.
        [[("writes", "VERB")], [("river", "NOUN")], [("sea", "NOUN")]],
        [[("writes", "VERB"), ("river", "NOUN"), ("sea", "NOUN")], [("river", "_")]],
        [[("writes", "VERB"), ("river", "NOUN"), ("sea", "NOUN")], [("\u200b", "NOUN")]],
    ],
)
def test_the_probe_takes_training_files_whose_layer_cannot_be_chosen(config, tmp_path, sentences):
    ratio = run_task(TaggingProbe, trained_on(config, tmp_path, sentences), "en")["en"].ratios["accuracy"]
    assert ratio.numerators_U.sum() == 3


@pytest.mark.parametrize("task", [Tagging, TaggingProbe])
def test_training_files_without_tokens_are_refused(config, tmp_path, task):
    blank = trained_on(config, tmp_path, [[("\u200b", "VERB"), ("\u200b", "NOUN")]] * 6)
    with pytest.raises(UserError, match=r"tagging\.en\.train: the tokenizer of models\.en makes a token of no word"):
        run_task(task, blank, "en")


def test_jobs_are_those_of_the_languages_that_a_model_was_made_for(config):
    several = config.model_copy(update={"seeds": [0, 1]})
    fine_tuned, probe = Tagging.from_config(several), TaggingProbe.from_config(several)
    made_for = ModelConfig(model="x", languages=["ru", "hi"])
    assert fine_tuned.jobs("m", made_for) == [Job("tagging", "m", "ru", 0), Job("tagging", "m", "ru", 1)]
    assert [job.language for job in probe.jobs("m", ModelConfig(model="x"))] == ["en", "ru"]
    assert probe.jobs("m", made_for) == [Job("tagging_probe", "m", "ru", None)]


def test_what_decides_the_scores_is_in_the_fingerprint(config, tmp_path):
    def fingerprint(task=Tagging, **changes):
        return task.from_config(config.model_copy(update=changes)).fingerprint(Job(task.key, "m", "en", 0))

    def fine_tuning(**changes):
        return config.fine_tuning.model_copy(update=changes)

    first = fingerprint()
    assert fingerprint(seeds=[0, 1], batch_tokens=77) == first
    assert fingerprint(fine_tuning=fine_tuning(epochs=5)) != first
    assert fingerprint(fine_tuning=fine_tuning(max_train_examples=60)) != first
    assert fingerprint(tagging={"en": config.tagging["en"]}) != first
    # The training files of another language belong to another job.
    only_trains = config.tagging["ru"].model_copy(update={"test": None})
    assert fingerprint(tagging={"en": config.tagging["en"], "ru": only_trains}) == fingerprint(
        tagging={"en": config.tagging["en"]}
    )
    # The test file's labels are the same, but the classifier has one more label to choose from.
    more = write_tsv(tmp_path / "more.tsv", [[("red", "ADJ"), ("sea", "NOUN")]])
    assert fingerprint(
        tagging={"en": config.tagging["en"], "ru": only_trains.model_copy(update={"train": [more]})}
    ) != fingerprint(tagging={"en": config.tagging["en"]})
    probe = fingerprint(TaggingProbe)
    assert probe != first
    assert fingerprint(TaggingProbe, fine_tuning=fine_tuning(epochs=5, learning_rate=1.0)) == probe
    assert fingerprint(TaggingProbe, fine_tuning=fine_tuning(max_length=12)) != probe


def test_the_version_of_a_task_is_in_the_fingerprint(config, monkeypatch):
    job = Job("tagging", "m", "en", 0)
    before = Tagging.from_config(config).fingerprint(job)
    monkeypatch.setattr(Tagging, "version", Tagging.version + 1)
    assert Tagging.from_config(config).fingerprint(job) != before


def test_its_files_and_the_examples_that_it_trains_on(config, files):
    fine_tuning = config.fine_tuning.model_copy(update={"max_train_examples": 60})
    tagging = config.tagging | {"ru": LabelledConfig(test=files["ru"]["test"])}
    task = Tagging.from_config(config.model_copy(update={"tagging": tagging, "fine_tuning": fine_tuning}))
    assert [(given.name, given.files, given.units) for given in task.files()] == [
        ("en", {"test": [files["en"]["test"]], "train": [files["en"]["train"]]}, {"train": 60}),
        ("ru", {"test": [files["ru"]["test"]]}, {}),
    ]


def test_labels_are_those_of_the_examples_that_are_used(config, tmp_path):
    def with_examples(count, sentences):
        train = write_tsv(tmp_path / "few.tsv", sentences)
        tagging = {"en": config.tagging["en"].model_copy(update={"train": [train]})}
        fine_tuning = config.fine_tuning.model_copy(update={"max_train_examples": count})
        return config.model_copy(update={"tagging": tagging, "fine_tuning": fine_tuning})

    sentences = [[("sea", "NOUN"), ("sings", "VERB"), (",", "PUNCT")], [("red", "ADJ")]]
    assert Tagging.from_config(with_examples(1, sentences)).labels == ["NOUN", "PUNCT", "VERB"]
    assert Tagging.from_config(with_examples(2, sentences)).labels == ["ADJ", "NOUN", "PUNCT", "VERB"]
    with pytest.raises(UserError, match=r"tagging\.en\.train: has only the label _;.*max_train_examples"):
        Tagging.from_config(with_examples(1, [[("sea", "_")], *sentences]))


def test_a_label_that_no_training_file_has_is_named(config, tmp_path):
    test = write_tsv(tmp_path / "a.tsv", [[("sea", "NOUN")], [("sea", "NOUN"), ("red", "ADJ")]])
    strange = {"ru": config.tagging["ru"], "en": config.tagging["en"].model_copy(update={"test": [test]})}
    with pytest.raises(
        UserError, match=r"a\.tsv:4: the label 'ADJ' does not occur in the training files, which have NOUN"
    ):
        Tagging.from_config(config.model_copy(update={"tagging": strange}))


def test_a_header_with_an_unknown_name_is_refused_unless_its_label_is_elsewhere(config, tmp_path):
    """The first word's label is on no other line of its file."""
    sentences = [[("yes", "Klasse")], *[[("sea", "NOUN"), ("sings", "VERB")]] * 30]
    files = {"train": write_tsv(tmp_path / "train.tsv", sentences), "test": write_tsv(tmp_path / "test.tsv", sentences)}

    def read():
        return Tagging.from_config(
            evaluation(tmp_path, models={"m": {"model": "x"}}, tagging={"en": files, "de": {"test": files["test"]}})
        )

    with pytest.raises(
        UserError, match=r"train\.tsv:1: no other line has the label 'Klasse', so this looks like a header"
    ):
        read()
    write_tsv(tmp_path / "test.tsv", [*sentences, sentences[0]])
    assert read().labels == ["Klasse", "NOUN", "VERB"]


@pytest.mark.parametrize("use", ["train", "test"])
def test_files_to_train_on_and_to_test_on_are_needed(config, use):
    tagging = {"en": config.tagging["en"].model_copy(update={use: None})}
    with pytest.raises(UserError, match=f"tagging: no language has `{use}` files"):
        Tagging.from_config(config.model_copy(update={"tagging": tagging}))


def test_one_label_is_nothing_to_learn(config, tmp_path):
    train = write_tsv(tmp_path / "a.tsv", [[("sea", "NOUN")]])
    tagging = {"en": config.tagging["en"].model_copy(update={"train": [train]})}
    with pytest.raises(UserError, match=r"tagging\.en\.train: has only the label 'NOUN'"):
        Tagging.from_config(config.model_copy(update={"tagging": tagging}))


@pytest.mark.parametrize("suffix", [".tsv", ".conllu"])
def test_test_files_without_a_label_are_refused(config, tmp_path, suffix):
    test = tmp_path / f"a{suffix}"
    test.write_text("1\tsea" + 8 * "\t_" + "\n" if suffix == ".conllu" else "sea\t_\n")
    tagging = config.tagging | {"ru": config.tagging["ru"].model_copy(update={"test": [str(test)]})}
    with pytest.raises(UserError, match=r"^tagging\.ru\.test: has only the label _, so no word can be scored"):
        Tagging.from_config(config.model_copy(update={"tagging": tagging}))


def test_a_task_that_is_not_asked_for_is_none(tmp_path):
    assert Tagging.from_config(evaluation(tmp_path, models={"m": {"model": "x"}})) is None
