"""The results of the evaluations, and a claim about them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.evaluation.statistics import Difference, mean_over_seeds, paired
from trainer.evaluation.tasks.task import Ratio


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
      text: begins with the claim's number.
      shown: None if it could not be tested.
      unclear: the languages whose difference is not clear.
    """

    text: str
    asked: str
    measured: str
    shown: bool | None
    unclear: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """`shown` in words."""
        if self.shown is None:
            return "not tried"
        verdict = "yes" if self.shown else "**no**"
        return f"{verdict}; not clear: {', '.join(self.unclear)}" if self.unclear else verdict


class Evaluated:
    """The results of an evaluation, by task, model and language."""

    def __init__(self, root: Path, name: str):
        self._folder = root / "evaluation" / name
        report = json.loads((self._folder / "report.json").read_text())
        self._results = report["results"]
        self._seeds = report["measurement"]["seeds"]
        self.encoder_parameters = {cost["model"]: cost["encoder_parameters"] for cost in report["costs"]}

    def result(self, task: str, metric: str, model: str, language: str, trained_on: str | None = None) -> dict:
        """Returns one result, with its interval."""
        for result in self._results:
            key = (result["task"], result["metric"], result["model"], result["language"], result["trained_on"])
            if key == (task, metric, model, language, trained_on):
                return result
        raise KeyError(f"{task} {metric} of {model} in {language}, trained on {trained_on}")

    def compared(
        self, task: str, metric: str, models: tuple[str, str], language: str, trained_on: str | None = None
    ) -> Difference:
        """Compares two models on the same sentences or records: the first one's value minus the second one's."""
        ratios = [self._ratio(task, metric, model, language, trained_on) for model in models]
        return paired(*ratios, samples=1000, seed=0)

    def value(self, task: str, metric: str, model: str, language: str, trained_on: str | None = None) -> float:
        """Returns one figure."""
        return self.result(task, metric, model, language, trained_on)["value"]

    def _ratio(self, task: str, metric: str, model: str, language: str, trained_on: str | None) -> Ratio:
        """Returns the sums of each unit, averaged over the report's seeds; scores of other seeds may be left from earlier."""
        source = trained_on or language
        names = [source, *(f"{source}-{seed}" for seed in self._seeds)]
        files = [self._folder / "scores" / task / model / f"{name}.json" for name in names]
        scored = [
            scores
            for file in files
            if file.exists()
            for scores in json.loads(file.read_text())["scores"]
            if scores["language"] == language
        ]
        ratios = [scores["ratios"][metric] for scores in scored]
        return mean_over_seeds(
            [Ratio(np.array(ratio["numerators"]), np.array(ratio["denominators"])) for ratio in ratios]
        )
