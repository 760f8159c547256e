"""Results in students' model cards."""

from dataclasses import replace

import numpy as np
import pytest
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tests.support.evaluations import LANGUAGES, MadeUpTask, make_evaluation
from trainer.evaluation.report.cards import _data
from trainer.evaluation.report.write import write_report
from trainer.evaluation.tasks.task import Job, Metric, Ratio, Scores

OTHER = EvalResult(
    task_type="fill-mask", dataset_type="held-out", dataset_name="held-out", metric_type="accuracy", metric_value=0.5
)


def write_card(path, tag: str, metrics=None) -> bytes:
    data = ModelCardData(language=["de"], tags=[tag], model_name="a", eval_results=[OTHER], metrics=metrics)
    path.write_text(f"---\n{data.to_yaml()}\n---\n# Title\n\nText — as it was.\n")
    return path.read_bytes()


def add_description(evaluation) -> None:
    """Adds a task whose metric only describes the student."""
    task = MadeUpTask("tokenization", "Tokens", Metric("tokens_per_word", "tokens a word", False, ranks=False))
    evaluation.tasks[task.key] = task
    for language in LANGUAGES:
        ratio = Ratio(np.array([3.0, 5.0]), np.array([2.0, 3.0]))
        evaluation.scores[Job(task.key, "student", language)] = [Scores(language, {"tokens_per_word": ratio})]


def test_results_are_written_and_replaced(tmp_path):
    evaluation = make_evaluation(tmp_path, update_model_cards=True)
    add_description(evaluation)
    path = tmp_path / "student" / "README.md"
    write_card(path, "mergedistill")
    of_another = write_card(tmp_path / "mlm-only" / "README.md", "something")
    write_report(evaluation)
    first = path.read_bytes()
    card = ModelCard.load(path)
    assert card.text.strip() == "# Title\n\nText — as it was." and card.data.language == ["de"]
    assert OTHER in card.data.eval_results
    written = [result for result in card.data.eval_results if result != OTHER]
    values = {(r.dataset_config, r.metric_type): r.metric_value for r in written}
    # 3 languages of likelihood, 3 of each figure of masked tokens, 9 pairs of tagging; the tokens a word rank no model.
    assert len(values) == 3 + 6 + 9 == len(card.data.eval_results) - 1
    (score,) = evaluation.scores[
        next(job for job in evaluation.scores if (job.task, job.model) == ("likelihood", "student"))
    ]
    assert values["likelihood-de-de", "bits_per_character"] == pytest.approx(score.ratios["bits_per_character"].value)
    assert set(card.data.metrics) == {"accuracy", "bits_per_character", "nll"}
    data = {r.dataset_config: (r.dataset_type, r.dataset_name) for r in written}
    assert data["likelihood-de-de"] == ("de.txt", "de.txt (de)")
    assert data["tagging-de-fi"] == ("fi-test.tsv", "fi-test.tsv (fi, trained on de)")
    write_report(evaluation)
    assert path.read_bytes() == first
    assert (tmp_path / "mlm-only" / "README.md").read_bytes() == of_another


def test_a_card_has_the_results_with_each_tokenizer(tmp_path):
    student = {"model": str(tmp_path / "student"), "languages": ["de"]}
    models = {"student": student, "mlm-only": student | {"model": f"{tmp_path}/student/", "tokenizer": "default"}}
    evaluation = make_evaluation(tmp_path, update_model_cards=True, models=models)
    path = tmp_path / "student" / "README.md"
    write_card(path, "mergedistill")
    for _ in range(2):
        write_report(evaluation)
        results = [result for result in ModelCard.load(path).data.eval_results if result.metric_type == "nll"]
        for result, model in zip(results, models, strict=True):
            (scores,) = evaluation.scores[Job("masked", model, "de")]
            assert result.metric_value == pytest.approx(scores.ratios["nll"].value)
        assert [(r.dataset_config, r.dataset_name) for r in results] == [
            ("masked-de-de", "de.txt (de)"),
            ("masked-de-de-default", "de.txt (de, default tokenizer)"),
        ]


@pytest.mark.parametrize("listed", ["perplexity", ["perplexity", "accuracy"]])
def test_metrics_that_the_owner_listed_are_kept(tmp_path, listed):
    evaluation = make_evaluation(tmp_path, update_model_cards=True)
    path = tmp_path / "student" / "README.md"
    write_card(path, "mergedistill", listed)
    for _ in range(2):
        write_report(evaluation)
        assert ModelCard.load(path).data.metrics == ["perplexity", "accuracy", "bits_per_character", "nll"]
    # A metric that only an earlier evaluation wrote goes with its results.
    scores = {job: scored for job, scored in evaluation.scores.items() if job.task != "likelihood"}
    write_report(replace(evaluation, scores=scores))
    assert ModelCard.load(path).data.metrics == ["perplexity", "accuracy", "nll"]


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["/data/en/test.tsv"], "test.tsv"),
        (["en/verses.txt", "de/verses.txt"], "verses.txt"),
        (["a/x.txt", "a/y.txt.gz", "b/x.txt"], "x.txt and 1 more"),
        (["texts/en/"], "en"),
    ],
)
def test_data_are_named_by_their_files(files, name):
    assert _data(files) == name


def test_cards_are_left_alone_unless_asked(tmp_path):
    evaluation = make_evaluation(tmp_path)
    before = write_card(tmp_path / "student" / "README.md", "mergedistill")
    write_report(evaluation)
    assert (tmp_path / "student" / "README.md").read_bytes() == before


@pytest.mark.parametrize(
    "content", ["", "---\n: {: [\n---\n", "---\n- a\n---\n", "---\ntags: [mergedistill]\nmodel-index: 3\n---\n"]
)
def test_cards_that_cannot_be_read_are_left_alone(tmp_path, content):
    evaluation = make_evaluation(tmp_path, update_model_cards=True)
    path = tmp_path / "student" / "README.md"
    path.write_text(content)
    write_report(evaluation)
    assert path.read_text() == content
