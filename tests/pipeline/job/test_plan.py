"""The plan: shards are small descriptions."""

from pipeline.config import PipelineConfig
from pipeline.job.plan import plan_shards, plan_text


def test_shards_are_small_descriptions(pipeline_settings, tmp_path):
    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))
    shards = plan_shards(config, plan_text(config))
    assert len({shard.path for shard in shards}) == len(shards) > 3
    assert all(len(repr(shard)) < 1000 for shard in shards)
