"""What was measured, and how."""

from dataclasses import replace
from importlib.metadata import version

import schemas
from tests.support.evaluations import make_evaluation
from trainer.evaluation.report.collect import content_of
from trainer.evaluation.report.measurement_section import measurement_section
from trainer.evaluation.report.tables import Section


def shown(section: Section) -> dict[tuple[str, str], list]:
    """The cells of all tables, by the heading of the group and of the row."""
    return {
        (group.heading, row.heading): [(cell.text, *cell.details) for cell in row.cells]
        for table in section.tables
        for group in table.groups
        for row in group.rows
    }


def test_data_and_settings(tmp_path):
    settings = {"learning_rate": 1e-3, "max_train_examples": 500}
    content = content_of(make_evaluation(tmp_path, max_length=64, fine_tuning=settings, device="cpu"))
    measured = content.measurement
    text, tagging = measured.data[0], measured.data[3]
    assert (text.section, text.tasks, text.name) == ("text", ["Pseudo-likelihood", "Masked tokens", "Cost"], "de")
    assert (text.unit, text.files, text.units) == ("record", {"test": ["heldout/de.txt"]}, {"test": 120})
    assert (tagging.section, tagging.tasks, tagging.unit) == ("tagging", ["Tagging"], "sentence")
    assert tagging.units == {"test": 120, "train": 900} and len(measured.data) == 6
    assert (measured.seeds, measured.max_length, measured.bootstrap_samples) == ([0, 1], 64, 200)
    assert measured.fine_tuning["learning_rate"] == 1e-3 and measured.device == "cpu"
    assert measured.versions == {
        "mergedistill": schemas.__version__, "torch": version("torch"), "transformers": version("transformers")
    }  # fmt: skip
    cells = shown(measurement_section(content))
    assert cells["Pseudo-likelihood; Masked tokens; Cost", "fi"] == [("120 records", "heldout/fi.txt"), ("–",)]
    assert cells["Tagging", "de"] == [("120 sentences", "de-test.tsv"), ("900 sentences", "de-train.tsv")]
    assert cells["", "Training on labels"] == [
        ("learning rate 0.001, epochs 3, batches of 32, at most 128 tokens, the first 500 examples",)
    ]
    assert cells["", "Seeds"] == [("0, 1",)] and cells["", "Intervals"] == [("95 %, bootstrap with 200 resamplings",)]
    assert cells["", "Length of text"] == [("at most 64 tokens; longer records are cut into pieces",)]


def test_files_have_no_secrets_and_what_was_not_used_is_left_out(tmp_path, monkeypatch):
    evaluation = make_evaluation(tmp_path)
    scores = {
        job: scored for job, scored in evaluation.scores.items() if job.task != "tagging" and job.language != "tr"
    }
    task = evaluation.tasks["likelihood"]
    secret = replace(task.files()[0], files={"test": ["https://user:secret@x.test/de.txt"]})
    others = task.files()[1:]
    monkeypatch.setattr(task, "files", lambda: [secret, *others])
    content = content_of(replace(evaluation, scores=scores))
    measured = content.measurement
    assert (measured.fine_tuning, measured.seeds) == (None, [])
    (address,) = measured.data[0].files["test"]
    assert "secret" not in address and address.endswith("x.test/de.txt")
    cells = shown(measurement_section(content))
    assert cells["Pseudo-likelihood; Masked tokens; Cost", "tr"][0] == ("not used", "heldout/tr.txt")
    assert not {("", "Seeds"), ("", "Training on labels")} & cells.keys()
