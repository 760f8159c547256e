"""Planning: which shards a run consists of."""

from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from pipeline.config import PipelineConfig
from pipeline.shard.shard import Shard
from pipeline.shard.shares import ShareInterval, divide
from schemas.corpus.files import find_files
from schemas.corpus.records import FilePlan, TextRange, plan_file
from schemas.errors import UserError

# The plans of each language's files, by source name.
TextPlan = dict[str, dict[str, FilePlan]]

# The shards of a compressed file are dealt out in this many consecutive lots. Each lot
# decompresses all that comes before it, so a file is decompressed about half as many times as it has lots.
_LOTS = 16
_FILES_AT_A_TIME = 8


def plan_text(config: PipelineConfig) -> TextPlan:
    """Reads every text file once. UserError where a pattern matches none, or all are empty."""
    files = {language: find_files(language, text.files, text.field) for language, text in config.text.items()}
    with ThreadPoolExecutor(_FILES_AT_A_TIME) as pool, ThreadPoolExecutor() as parts:
        plans = {
            language: dict(
                zip(
                    [file.source for file in language_files],
                    pool.map(
                        lambda file: plan_file(file, config.shard_bytes, parts, config.max_record_bytes), language_files
                    ),
                    strict=True,
                )
            )
            for language, language_files in files.items()
        }
    for language, by_source in plans.items():
        if not any(plan.ranges for plan in by_source.values()):
            raise UserError(f"text.{language}: its files are empty")
    return plans


def plan_shards(config: PipelineConfig, text: TextPlan) -> list[Shard]:
    """All shards of the run, in a fixed order: by teacher, language, file and range."""
    shards = []
    shares = divide_languages(config)
    for name, teacher in config.teachers.items():
        for language in teacher.languages:
            ranges = [part for plan in text[language].values() for part in plan.ranges]
            total = sum(part.records for part in ranges)
            max_records = min(config.text[language].max_records or total, total)
            share = shares.get(language, {}).get(name)
            # A shard of a sparse sample or a small share reads more text, so that it holds about as much.
            parts = _join(ranges, int(total // max_records / (share.size if share else 1)))
            first = 0
            for index, part in enumerate(parts):
                audit_rows = _part(config.audit_rows, index, len(parts))
                shards.append(
                    Shard(
                        language,
                        name,
                        index,
                        part,
                        first,
                        max_records,
                        total,
                        audit_rows,
                        config.max_record_bytes,
                        share,
                    )
                )
                first += part.records
    return shards


def divide_languages(config: PipelineConfig) -> dict[str, dict[str, ShareInterval]]:
    """Of each language that teachers divide among themselves, the share of each of them."""
    return {language: divide(shares, config.seed) for language in config.text if (shares := config.shares(language))}


def deal(shards: list[Shard]) -> list[list[Shard]]:
    """The shards in lots, each to be done in order: one shard in a lot, but several where the file is compressed."""
    lots = []
    for _, same in groupby(shards, key=lambda shard: (shard.language, shard.teacher, shard.part.file)):
        group = list(same)
        size = -(-len(group) // _LOTS) if group[0].part.file.codec else 1
        lots += [group[start : start + size] for start in range(0, len(group), size)]
    return lots


def _join(ranges: list[TextRange], most: int) -> list[TextRange]:
    """Joins up to `most` consecutive ranges of one file into one."""
    joined: list[TextRange] = []
    count = 0
    for part in ranges:
        last = joined[-1] if joined else None
        if last and last.file == part.file and count < most:
            joined[-1] = TextRange(
                last.file, last.start, part.end, last.first_record, last.records + part.records, last.size + part.size
            )
            count += 1
        else:
            joined.append(part)
            count = 1
    return joined


def _part(total: int, index: int, count: int) -> int:
    """The `index`-th of `count` parts when `total` is spread evenly."""
    return total * (index + 1) // count - total * index // count
