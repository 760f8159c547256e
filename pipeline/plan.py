"""Planning: which shards a run consists of."""

from concurrent.futures import ThreadPoolExecutor

from pipeline.config import PipelineConfig
from pipeline.shards import Shard
from pipeline.text import FilePlan, find_files, plan_file
from schemas.errors import UserError

# For each language, its files' plans by source name.
TextPlan = dict[str, dict[str, FilePlan]]


def plan_text(config: PipelineConfig) -> TextPlan:
    """Reads every text file once. UserError where a pattern matches none, or all are empty."""
    files = {language: find_files(language, patterns) for language, patterns in config.text.items()}
    with ThreadPoolExecutor() as pool:
        plans = {
            language: dict(
                zip(
                    [file.source for file in found],
                    pool.map(lambda file: plan_file(file, config.shard_bytes), found),
                    strict=True,
                )
            )
            for language, found in files.items()
        }
    for language, by_source in plans.items():
        if not any(plan.ranges for plan in by_source.values()):
            raise UserError(f"text.{language}: its files are empty")
    return plans


def plan_shards(config: PipelineConfig, text: TextPlan) -> list[Shard]:
    """Every shard of the run, in a fixed order: teachers, their languages, files, ranges."""
    return [
        Shard(language, name, index, lines)
        for name, teacher in config.teachers.items()
        for language in teacher.languages
        for index, lines in enumerate(lines for plan in text[language].values() for lines in plan.ranges)
    ]
