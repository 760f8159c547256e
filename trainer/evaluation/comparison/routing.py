"""`routing.yaml`: the best teacher of each language, as the pipeline's `teachers` section."""

import textwrap
from collections.abc import Mapping, Sequence

import yaml

from schemas.errors import UserError, printable
from schemas.paths import check_output_file
from schemas.storage import exists, read_bytes
from trainer.evaluation.comparison.ranking import Ranking
from trainer.evaluation.comparison.reasons import reasons
from trainer.evaluation.config import ModelConfig

_WIDTH = 110
# By which a file that may be replaced is recognised.
_SIGNATURE = "# Written by `mergedistill evaluate`"
_HEAD = (
    "Written by `mergedistill evaluate`: the `teachers` section of the pipeline's configuration (`teachers: FILE`). Each "
    "language has the candidate with the fewest bits per character or, if there is no clear difference, the cheapest of "
    "the best."
)


def check_routing(url: str) -> None:
    """Raises UserError if the file cannot be written, or exists and is something else, such as the configuration."""
    check_output_file(url)
    if exists(url) and not read_bytes(url).startswith(_SIGNATURE.encode()):
        raise UserError(f"comparison.routing: {url} exists and is not a routing of an earlier run; choose another name")


def routing(rankings: Sequence[Ranking], models: Mapping[str, ModelConfig]) -> str:
    """Returns the file's text: the teachers in the order of `models`, each with the reason for each of its languages."""
    parts = [_comment(_HEAD)]
    parts += [_comment(f"{ranking.language}: no candidate reads it.") for ranking in rankings if ranking.chosen is None]
    for name, model in models.items():
        if taught := [ranking for ranking in rankings if ranking.chosen == name]:
            parts += [
                _comment(f"{ranking.language}: {'; '.join(reasons(ranking.candidates[0], ranking))}.")
                for ranking in taught
            ]
            parts.append(
                yaml.safe_dump({name: _teacher(model, taught)}, sort_keys=False, allow_unicode=True, width=1000)
            )
    return "".join(parts)


def _teacher(model: ModelConfig, taught: Sequence[Ranking]) -> dict:
    settings = {"model": model.model, "revision": model.revision, "trust_remote_code": model.trust_remote_code}
    return {key: value for key, value in settings.items() if value} | {
        "languages": [ranking.language for ranking in taught]
    }


def _comment(text: str) -> str:
    return (
        textwrap.fill(printable(text), _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)
        + "\n"
    )
