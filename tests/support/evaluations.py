"""A finished evaluation with made-up figures, for the report's tests and for looking at reports."""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, write_vocabulary
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.models import Model
from trainer.evaluation.run import Evaluation
from trainer.evaluation.tasks.task import Job, Metric, Ratio, Scores, Task

LANGUAGES = ("de", "fi", "tr")
UNITS = 120


class MadeUpTask(Task):
    """A task that only has a name."""

    def __init__(self, key: str, title: str, *metrics: Metric):
        self.key, self.title, self.metrics = key, title, metrics

    @classmethod
    def from_config(cls, config):
        raise NotImplementedError

    def jobs(self, name, model):
        raise NotImplementedError

    def run(self, job, model):
        raise NotImplementedError

    def content(self, job):
        raise NotImplementedError

    def test_files(self, language):
        return [f"/made/up/{language}/{self.key}.tsv"]

    def trained_on(self, job):
        return job.language if self.key == "tagging" else None


TASKS = (
    MadeUpTask("likelihood", "Pseudo-likelihood", Metric("bits_per_character", "bits per character", False)),
    MadeUpTask(
        "masked",
        "Masked tokens",
        Metric("accuracy", "accuracy"),
        Metric("nll", "negative log-likelihood, nats", False),
    ),
    MadeUpTask("tagging", "Tagging", Metric("accuracy", "accuracy")),
    MadeUpTask("cost", "Cost"),
)


def make_evaluation(folder: Path, **settings) -> Evaluation:
    """Returns an evaluation of two teachers, their student and an MLM-only one; settings are those of the configuration."""
    tokens = {"teacher-de": range(60), "teacher-fi": range(30, 100), "student": range(100), "mlm-only": range(100)}
    for name, numbers in tokens.items():
        _save_tokenizer(folder / name, [f"word{number}" for number in numbers])
    for number, name in enumerate(("student", "mlm-only")):
        _save_metrics(folder / name, number)
    ids = {name: np.full(103, -1, np.int32) for name in ("de", "fi")}
    ids["de"][:63], ids["fi"][33:] = np.arange(63), np.arange(70)
    roles = ["pad", "unknown", "mask", *["word"] * 100]
    write_vocabulary(
        str(folder / "student" / VOCABULARY_FILE), Vocabulary([f"▁{number}" for number in range(103)], roles, ids)
    )
    teachers = {"de": "teacher-de", "fi": "teacher-fi"}
    config = EvaluationConfig.model_validate(
        {
            "output": str(folder / "made-up"),
            "models": {
                "teacher-de": {"model": str(folder / "teacher-de"), "languages": ["de"]},
                "teacher-fi": {"model": str(folder / "teacher-fi"), "languages": ["fi"]},
                "student": {"model": str(folder / "student"), "teachers": teachers},
                "mlm-only": {"model": str(folder / "mlm-only"), "teachers": teachers},
            },
            "bootstrap_samples": 200,
            "seeds": [0, 1],
        }
        | settings
    )
    (folder / "made-up").mkdir(exist_ok=True)
    models_by_name = {name: Model(name, model, torch.device("cpu")) for name, model in config.models.items()}
    scores = {
        job: _scores(job) for task in TASKS for name, model in config.models.items() for job in _jobs(task, name, model)
    }
    seconds = dict.fromkeys(scores, 12.5)
    return Evaluation(config, {task.key: task for task in TASKS}, models_by_name, scores, seconds)


def _jobs(task, name, model) -> list[Job]:
    languages = model.languages or LANGUAGES
    seeds = [0, 1] if task.key == "tagging" else [None]
    return [Job(task.key, name, language, seed) for language in languages for seed in seeds]


def _scores(job: Job) -> list[Scores]:
    generator = np.random.default_rng([*f"{job.task} {job.model} {job.language} {job.seed}".encode()])
    skill = {"teacher-de": 0.62, "teacher-fi": 0.6, "student": 0.72, "mlm-only": 0.6}[job.model]
    tested = LANGUAGES if job.task == "tagging" else (job.language,)
    return [_of_language(job, language, skill - 0.2 * (language != job.language), generator) for language in tested]


def _of_language(job: Job, language: str, skill: float, generator: np.random.Generator) -> Scores:
    # All models have the same units in a language.
    sizes_U = np.random.default_rng([*language.encode()]).integers(5, 30, UNITS).astype(float)
    correct_U = generator.binomial(sizes_U.astype(int), skill).astype(float)
    if job.task == "likelihood":
        return Scores(
            language,
            {"bits_per_character": Ratio(sizes_U * (3 - 2 * skill) + correct_U / 20, sizes_U)},
            {"unknown_characters": skill / 100},
        )
    if job.task == "tagging":
        return Scores(language, {"accuracy": Ratio(correct_U, sizes_U)})
    if job.task == "cost":
        figures = {
            "parameters": 11.2e6,
            "encoder_parameters": 4.7e6,
            "tokens_per_second": 9876.5,
            "peak_memory_mib": 512,
        }
        return Scores(language, {}, figures)
    confidence = (np.arange(10) + 0.5) / 10
    accuracy = np.clip(confidence**1.2 + generator.normal(0, 0.03, 10), 0, 1)
    bins = {
        f"calibration_{key}_{number}": float(value)
        for key, values in (("count", np.full(10, 100)), ("confidence", confidence), ("accuracy", accuracy))
        for number, value in enumerate(values)
    }
    bins |= {
        "calibration_count_9": 0.0,
        "calibration_confidence_9": float("nan"),
        "calibration_accuracy_9": float("nan"),
    }
    ratios = {"accuracy": Ratio(correct_U, sizes_U), "nll": Ratio(sizes_U * (4 - 3 * skill) + correct_U / 20, sizes_U)}
    figures = {"ece": float(np.abs(confidence - accuracy).mean()), **bins}
    return Scores(language, ratios, figures, "others" if job.model == "teacher-fi" else "the same")


def _save_tokenizer(folder: Path, words: list[str]) -> None:
    special = ["[PAD]", "[UNK]", "[MASK]"]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate([*special, *words])}, "[UNK]"))
    names = dict(zip(("pad_token", "unk_token", "mask_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def _save_metrics(folder: Path, number: int) -> None:
    """Saves the metrics of a run of 1,000 steps; its loss falls more slowly for a higher `number`."""
    lines = []
    for step in range(100, 1001, 100):
        nll = {
            language: 2 + shift + (6 + number) * 0.995 ** (step / (1 + number))
            for shift, language in enumerate(LANGUAGES)
        }
        train = {language: {"mlm": value, "accuracy": 0.5} for language, value in nll.items()}
        lines.append({"step": step, "train": train, "tokens_per_second": 20000.0 + step})
        heldout = {language: {"nll": value, "accuracy": 0.5} for language, value in nll.items()}
        lines.append({"step": step, "heldout": heldout, "heldout_sha256": "1f" * 32})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
