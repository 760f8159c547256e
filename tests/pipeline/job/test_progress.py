"""Progress that is shown during a run."""

import time

import pytest

from pipeline.job import progress
from pipeline.shard.parquet import Receipt
from pipeline.shard.written import Written, unit_table
from pipeline.text.units import Unit
from schemas.file_table import FileRecord
from schemas.storage import write_bytes


def test_progress_moves_within_a_unit(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS", 0.01)
    english, hindi = Unit("en", "a", 0), Unit("hi", "b", 0)
    (tmp_path / "p").mkdir()
    predicted = progress.UnitProgress()
    receipt = Receipt(records=3, used=2, rejected={"empty": 1}, rows=7, tokens=50, masked_positions=9)
    with progress.run_progress(str(tmp_path / "p"), {english: 2000, hindi: 1000}, predicted):
        predicted.add(english, receipt, 500)
        predicted.note(english, 1000, 300, 400, 40)
        time.sleep(0.3)
    shown = capsys.readouterr().err
    # A quarter is written; of another half, three quarters are done.
    assert "en:  62%" in shown and " 37 rows," in shown and " 1 rejected" in shown and "hi:  62%" not in shown


def test_finished_units_count_whatever_wrote_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS", 0.01)
    unit = Unit("en", "a", 0)
    receipt = Receipt(records=3, used=2, rejected={"empty": 1}, rows=7, tokens=50, masked_positions=9)
    file = FileRecord.model_construct(
        path="en/a/000000000000.parquet", language="en", teacher="a", rows=7, row_groups=[7], tokens=50,
        masked_positions=9, size=1, footer_sha256="",
    )  # fmt: skip
    write_bytes(str(tmp_path / unit.path), unit_table([Written(file, receipt)]))
    with progress.run_progress(str(tmp_path), {unit: 2000}, progress.UnitProgress()):
        pass
    assert "en: 100%" in capsys.readouterr().err


@pytest.mark.timeout(30)
def test_a_run_whose_progress_nobody_reads_comes_to_its_end(tmp_path, monkeypatch):
    """As in `mergedistill predict ... 2>&1 | head`: the thread that shows progress fails, not the run."""
    monkeypatch.setattr(progress, "_SECONDS", 0.01)
    failures = []

    def closed(*_, **__):
        failures.append(1)
        raise BrokenPipeError

    with monkeypatch.context() as patch, pytest.raises(BrokenPipeError):
        with progress.run_progress(str(tmp_path), {Unit("en", "a", 0): 2000}, progress.UnitProgress()):
            patch.setattr(progress.tqdm, "display", closed)
            # The thread has failed once, before this one shows the end.
            while not failures:
                time.sleep(0.01)


def test_many_languages_have_one_bar(tmp_path, capsys):
    sizes = {Unit(f"l{number}", "a", 0): 10 for number in range(200)}
    with progress.run_progress(str(tmp_path), sizes, progress.UnitProgress()):
        pass
    shown = capsys.readouterr().err
    assert "200 languages:" in shown and "l7" not in shown
