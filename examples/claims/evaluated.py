"""The results of the evaluations, and a claim about them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.evaluation.tasks.task import Ratio


@dataclass(frozen=True)
class Claim:
    """One claim. `shown` is None if it could not be tested."""

    text: str
    asked: str
    measured: str
    shown: bool | None


class Evaluated:
    """The results of an evaluation, by task, model and language."""

    def __init__(self, root: Path, name: str):
        self._folder = root / "evaluation" / name
        report = json.loads((self._folder / "report.json").read_text())
        self._results = report["results"]
        self.encoder_parameters = {cost["model"]: cost["encoder_parameters"] for cost in report["costs"]}

    def result(self, task: str, metric: str, model: str, language: str, trained_on: str | None = None) -> dict:
        """Returns one result, with its interval."""
        for result in self._results:
            key = (result["task"], result["metric"], result["model"], result["language"], result["trained_on"])
            if key == (task, metric, model, language, trained_on):
                return result
        raise KeyError(f"{task} {metric} of {model} in {language}, trained on {trained_on}")

    def bits(self, model: str, language: str) -> Ratio:
        """Returns bits and characters of each record."""
        path = self._folder / "scores" / "likelihood" / model / f"{language}.json"
        (scores,) = json.loads(path.read_text())["scores"]
        ratio = scores["ratios"]["bits_per_character"]
        return Ratio(np.array(ratio["numerators"]), np.array(ratio["denominators"]))

    def value(self, task: str, metric: str, model: str, language: str, trained_on: str | None = None) -> float:
        """Returns one figure."""
        return self.result(task, metric, model, language, trained_on)["value"]
