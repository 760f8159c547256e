"""Writes the files of a comparison: `comparison.json`, `comparison.md` and the routing."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

from schemas.storage import join, write_bytes
from schemas.tables import format_table
from trainer.evaluation.comparison.ranking import RANKED_BY, Candidate, Ranking
from trainer.evaluation.comparison.reasons import TITLES, reasons
from trainer.evaluation.comparison.routing import routing
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.json_values import finite

JSON_FILE, MARKDOWN_FILE = "comparison.json", "comparison.md"


def write_comparison(rankings: Sequence[Ranking], config: EvaluationConfig, routing_file: str) -> str:
    """Writes the three files and returns the Markdown."""
    text = markdown(rankings, config.top_k)
    content = json.dumps(to_json(rankings), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(join(config.output, JSON_FILE), content.encode())
    write_bytes(join(config.output, MARKDOWN_FILE), text.encode())
    write_bytes(routing_file, routing(rankings, config.models).encode())
    return text


def to_json(rankings: Sequence[Ranking]) -> list[dict]:
    """Returns the rankings and the reasons as JSON values; numbers that are not finite become null."""
    return [
        finite(asdict(ranking))
        | {
            "candidates": [
                finite(asdict(candidate)) | {"rank": candidate.rank, "reasons": reasons(candidate, ranking)}
                for candidate in ranking.candidates
            ]
        }
        for ranking in rankings
    ]


def markdown(rankings: Sequence[Ranking], top_k: int) -> str:
    """Returns a section for each language: the choice, the table and the reasons."""
    return "\n".join(["# Comparison of teachers", "", *(_section(ranking, top_k) for ranking in rankings)])


def _section(ranking: Ranking, top_k: int) -> str:
    lines = [f"## {ranking.language}: {ranking.chosen or 'no candidate'}", ""]
    if ranking.candidates:
        keys = [key for key in TITLES if any(key in candidate.figures for candidate in ranking.candidates)]
        header = ["rank", "candidate", *(_title(key, top_k) for key in keys)]
        rows = [[str(one.rank or "-"), one.name, *(_cell(one, key) for key in keys)] for one in ranking.candidates]
        lines += [format_table(header, rows, "rl" + "r" * len(keys), is_markdown=True), ""]
    lines += [f"- {one.name}: {'; '.join(reasons(one, ranking))}." for one in ranking.candidates]
    return "\n".join(lines) + "\n"


def _title(key: str, top_k: int) -> str:
    title = TITLES[key][0]
    return f"{title} at {top_k}" if key == "tail_mass" else title


def _cell(candidate: Candidate, key: str) -> str:
    figure = candidate.figures.get(key, math.nan)
    if math.isnan(figure):
        return "-"
    value = f"{figure:,.{TITLES[key][1]}f}"
    has_interval = key == RANKED_BY and not math.isnan(candidate.low)
    return f"{value} [{candidate.low:.3f}, {candidate.high:.3f}]" if has_interval else value
