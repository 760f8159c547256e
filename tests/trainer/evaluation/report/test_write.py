"""The files of a report, and its summary."""

import json

from tests.support.evaluations import make_evaluation
from trainer.evaluation.report.write import write_report


def test_files_and_summary(tmp_path):
    evaluation = make_evaluation(tmp_path)
    summary = write_report(evaluation)
    folder = tmp_path / "made-up"
    content = json.loads((folder / "report.json").read_text())
    assert {key: len(value) for key, value in content.items()} == {
        "title": 7,
        "languages": 3,
        "measurement": 10,
        "models": 4,
        "tasks": 4,
        "results": 48,
        "figures": 8,
        "comparisons": 24,
        "curves": 6,
        "reaches": 8,
        "transfer": 1,
        "overlap": 2,
        "calibration": 8,
        "costs": 4,
    }
    assert {(figure["task"], figure["key"]) for figure in content["figures"]} == {("likelihood", "unknown_characters")}
    # NaN becomes null in JSON.
    assert content["calibration"][0]["accuracies"][9] is None
    cost = {"evaluation_seconds": 187.5, "training_steps": 1000, "training_tokens_per_second": 20550.0}
    assert content["costs"][2].items() >= cost.items()
    lines = summary.splitlines()
    assert lines[0].split() == ["task", "language", "teacher-de", "teacher-fi", "student", "mlm-only"]
    (row,) = (line for line in lines if line.startswith("Pseudo-likelihood, bits per character  de"))
    (value,) = (
        r["value"]
        for r in content["results"]
        if (r["task"], r["model"], r["language"]) == ("likelihood", "student", "de")
    )
    assert f"{value:.3f} *" in row and lines[-1] == str(folder / "report.html")
    files = ("report.json", "report.md", "report.html")
    first = [(folder / name).read_bytes() for name in files]
    write_report(evaluation)
    assert [(folder / name).read_bytes() for name in files] == first


def test_the_title_of_the_configuration(tmp_path):
    write_report(make_evaluation(tmp_path, title="German & Finnish"))
    folder = tmp_path / "made-up"
    assert "<title>Evaluation: German &amp; Finnish</title>" in (folder / "report.html").read_text()
    assert (folder / "report.md").read_text().startswith("# Evaluation: German &#38; Finnish\n")
    assert json.loads((folder / "report.json").read_text())["title"] == "German & Finnish"


def test_a_report_of_one_model_on_one_language(tmp_path):
    one = {"student": {"model": str(tmp_path / "student"), "languages": ["de"]}}
    evaluation = make_evaluation(tmp_path, models=one)
    (tmp_path / "student" / "metrics.jsonl").unlink()
    write_report(evaluation)
    page = (tmp_path / "made-up" / "report.html").read_text()
    assert "against their teachers" not in page and "Loss curves" not in page and "Steps to a given" not in page
