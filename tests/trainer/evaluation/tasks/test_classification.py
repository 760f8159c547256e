"""Classification, compared with a plain loop."""

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from schemas.errors import UserError
from tests.support.labelled import NOUNS, VERBS, evaluation, load_model, make_learner, run_task
from trainer.evaluation.checks import check_model
from trainer.evaluation.tasks.classification import Classification
from trainer.evaluation.tasks.fine_tuning import fine_tune


def write(path, count: int, seed: int, pairs: bool) -> str:
    """Writes sentences of nouns or of verbs, with the kind as the label. In a pair, the first sentence decides."""
    source = random.Random(seed)
    lines = []
    for _ in range(count):
        label, words = source.choice([("noun", NOUNS["en"]), ("verb", VERBS["en"])])
        texts = [" ".join(source.choices(words, k=source.randint(1, 5)))]
        texts += [" ".join(source.choices([",", ";"], k=2))] * pairs
        lines.append("\t".join([*texts, label]))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.heavy
@pytest.mark.parametrize("pairs", [False, True])
def test_accuracy_is_that_of_a_plain_loop(tmp_path, teachers, pairs):
    files = {use: write(tmp_path / f"{use}.tsv", count, seed, pairs)
             for seed, (use, count) in enumerate([("train", 100), ("test", 30)])}  # fmt: skip
    folder = make_learner(tmp_path / "model", teachers / "en-wordpiece")
    config = evaluation(tmp_path, models={"m": {"model": str(folder)}}, classification={"en": files})
    ratio = run_task(Classification, config, "m")["en"].ratios["accuracy"]

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = {use: [line.split("\t") for line in Path(file).read_text().splitlines()] for use, file in files.items()}
    examples = [{**tokenizer(*texts), "labels": int(label == "verb")} for *texts, label in rows["train"]]
    tuned = fine_tune(
        load_model(config, "m"), AutoModelForSequenceClassification, examples, DataCollatorWithPadding(tokenizer),
        config.fine_tuning, 0, {"num_labels": 2},
    )  # fmt: skip
    right = []
    for *texts, label in rows["test"]:
        with torch.no_grad():
            chosen = tuned(**tokenizer(*texts, return_tensors="pt")).logits[0].argmax()
        right.append(["noun", "verb"][chosen] == label)
    assert ratio.numerators_U.tolist() == right
    assert ratio.denominators_U.tolist() == [1] * 30
    assert ratio.value > 0.9


@pytest.mark.heavy
def test_pairs_reach_a_model_with_one_token_type(tmp_path, teachers):
    files = {use: write(tmp_path / f"{use}.tsv", 20, 0, pairs=True) for use in ("train", "test")}
    config = evaluation(
        tmp_path, models={"m": {"model": str(teachers / "ru-unigram")}}, classification={"en": files},
        fine_tuning={"epochs": 0.1},
    )  # fmt: skip
    assert len(run_task(Classification, config, "m")["en"].ratios["accuracy"].numerators_U) == 20


@pytest.mark.heavy
def test_a_checkpoint_of_a_regression_is_trained_to_classify(tmp_path, teachers):
    files = {use: write(tmp_path / f"{use}.tsv", 20, 0, pairs=False) for use in ("train", "test")}
    learner = make_learner(tmp_path / "model", teachers / "en-wordpiece")
    trained = AutoModelForSequenceClassification.from_pretrained(learner, num_labels=1, problem_type="regression")
    make_learner(tmp_path / "regression", teachers / "en-wordpiece")
    trained.save_pretrained(tmp_path / "regression")
    config = evaluation(tmp_path, models={"m": {"model": str(tmp_path / "regression")}}, classification={"en": files})
    task = Classification.from_config(config)
    check_model(load_model(config, "m"), [(job, task) for job in task.jobs("m", config.models["m"])])
    assert run_task(Classification, config, "m")["en"].ratios["accuracy"].value > 0.5


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("good\tnever\n", r"test\.tsv:1: the label 'never' does not occur in the training files, which have no, yes"),
        ("good\tgood\tyes\n", r"test\.tsv:1: has 3 columns, but .*train\.tsv:1 has 2; all files of the task"),
    ],
)
def test_test_files_must_fit_the_training_files(tmp_path, test, message):
    (tmp_path / "train.tsv").write_text("good\tyes\nbad\tno\n")
    (tmp_path / "test.tsv").write_text(test)
    files = {use: str(tmp_path / f"{use}.tsv") for use in ("train", "test")}
    with pytest.raises(UserError, match=message):
        Classification.from_config(evaluation(tmp_path, models={"m": {"model": "x"}}, classification={"en": files}))
