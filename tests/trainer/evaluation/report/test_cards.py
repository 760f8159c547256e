"""Results in students' model cards."""

import pytest
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tests.support.evaluations import make_evaluation
from trainer.evaluation.report.write import write_report

OTHER = EvalResult(
    task_type="fill-mask", dataset_type="held-out", dataset_name="held-out", metric_type="accuracy", metric_value=0.5
)


def write_card(path, tag: str) -> bytes:
    data = ModelCardData(language=["de"], tags=[tag], model_name="a", eval_results=[OTHER])
    path.write_text(f"---\n{data.to_yaml()}\n---\n# Title\n\nText — as it was.\n")
    return path.read_bytes()


def test_results_are_written_and_replaced(tmp_path):
    evaluation = make_evaluation(tmp_path, update_model_cards=True)
    path = tmp_path / "student" / "README.md"
    write_card(path, "mergedistill")
    of_another = write_card(tmp_path / "mlm-only" / "README.md", "something")
    write_report(evaluation)
    first = path.read_bytes()
    card = ModelCard.load(path)
    assert card.text.strip() == "# Title\n\nText — as it was." and card.data.language == ["de"]
    assert OTHER in card.data.eval_results
    values = {
        (r.dataset_config, r.metric_type): r.metric_value
        for r in card.data.eval_results
        if r.dataset_config is not None
    }
    # 3 languages of likelihood, 3 of each figure of masked tokens, 9 pairs of tagging.
    assert len(values) == 3 + 6 + 9 == len(card.data.eval_results) - 1
    (score,) = evaluation.scores[
        next(job for job in evaluation.scores if (job.task, job.model) == ("likelihood", "student"))
    ]
    assert values["likelihood-de-de", "bits_per_character"] == pytest.approx(score.ratios["bits_per_character"].value)
    assert set(card.data.metrics) == {"accuracy", "bits_per_character", "nll"}
    write_report(evaluation)
    assert path.read_bytes() == first
    assert (tmp_path / "mlm-only" / "README.md").read_bytes() == of_another


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
