"""Progress that is shown during a run."""

import time

from pipeline.config import PipelineConfig
from pipeline.job import progress
from pipeline.job.launcher import prepare


def test_progress_moves_within_a_shard(pipeline_settings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS", 0.01)
    shards = prepare(PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))).shards
    english, hindi = (next(shard for shard in shards if shard.language == name) for name in ("en", "hi"))
    (tmp_path / "p").mkdir()
    predicted = progress.ShardProgress()
    with progress.run_progress(str(tmp_path / "p"), [english, hindi], predicted):
        predicted.note(english.path, 300, 400, 40)
        time.sleep(0.3)
    shown = capsys.readouterr().err
    assert "en:  75%" in shown and " 30 rows," in shown and "hi:  75%" not in shown
