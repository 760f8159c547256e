"""Stores scores, one JSON file per job, so that an evaluation resumes where it stopped."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.storage import write_bytes
from trainer.evaluation.tasks.task import Job, Ratio, Scores

FOLDER = "scores"


class Kept(NamedTuple):
    """The stored scores of a job, and how long it took."""

    scores: list[Scores]
    seconds: float


class Store:
    """The scores below an output folder."""

    def __init__(self, output: str):
        self._folder = Path(output) / FOLDER

    def get(self, job: Job, fingerprint: str) -> Kept | None:
        """Returns the stored scores of a job; None if it did not run, or ran with other data, settings, weights or code."""
        try:
            content = json.loads(self._path(job).read_text())
            if content["fingerprint"] != fingerprint:
                return None
            return Kept([_scores_from_json(scores) for scores in content["scores"]], float(content["seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, job: Job, fingerprint: str, kept: Kept) -> None:
        """Stores the scores of a job."""
        content = {
            "fingerprint": fingerprint,
            "seconds": kept.seconds,
            "scores": [_scores_to_json(scores) for scores in kept.scores],
        }
        write_bytes(str(self._path(job)), json.dumps(content).encode())

    def _path(self, job: Job) -> Path:
        seed = "" if job.seed is None else f"-{job.seed}"
        return self._folder / job.task / job.model / f"{job.language}{seed}.json"


def job_fingerprint(task_fingerprint: str, model_fingerprint: str) -> str:
    """Returns a sha256 over everything that decides a job's scores, except its seed."""
    return hashlib.sha256(f"{task_fingerprint} {model_fingerprint}".encode()).hexdigest()


def _scores_to_json(scores: Scores) -> dict:
    ratios = {
        key: {"numerators": ratio.numerators_U.tolist(), "denominators": ratio.denominators_U.tolist()}
        for key, ratio in scores.ratios.items()
    }
    return {"language": scores.language, "ratios": ratios, "figures": scores.figures, "questions": scores.questions}


def _scores_from_json(content: dict) -> Scores:
    ratios = {
        key: Ratio(np.array(ratio["numerators"], np.float64), np.array(ratio["denominators"], np.float64))
        for key, ratio in content["ratios"].items()
    }
    return Scores(content["language"], ratios, content["figures"], content["questions"])
