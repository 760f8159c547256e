"""Configurations and steps of the runs behind the claims: teachers, captures of their predictions, students, evaluations.

All models are small: two layers of width 128, 4,000 tokens per teacher. They read sequences of 16 tokens first, then of 32:
on short ones a model of this size learns to use the context after a few hundred steps, on longer ones after thousands.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from examples.schedule import Step

ENCODER = {
    "num_hidden_layers": 2,
    "hidden_size": 128,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    # RoBERTa's positions start after the padding id, so 32 tokens need 2 more.
    "max_position_embeddings": 34,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.06,
    "attn_implementation": "eager",
}
LENGTHS = {"short": 16, "long": 32}
# The share of steps on short sequences, for a model that starts from random weights.
TEACHERS_SHORT_SHARE, STUDENTS_SHORT_SHARE = 1 / 2, 1 / 3
# The model type that usually has each tokenizer family.
MODEL_TYPES = {"wordpiece": "bert", "unigram": "xlm-roberta", "bpe": "roberta"}
# All held-out targets are masked, so that none can be copied from the input.
HELDOUT_MASKING = {"mlm_probability": 0.25, "mask_replace_prob": 1.0, "random_replace_prob": 0.0}
HELDOUT_CHAPTERS = 15
# The best of the tried weights (see the ablations) after few steps. Students that train long surpass their teachers, so they
# anneal the weight.
DISTILLATION = {"kd_weight": 0.8, "tail": "sampled"}
ANNEALED = {**DISTILLATION, "final_kd_weight": 0.2}
# The best of the tried rates (1e-3, 2e-3, 4e-3) for each: with a higher one, a model with random weights learns only word
# frequencies.
RANDOM_RATE, TRAINED_RATE = 2e-3, 4e-3
TEACHER_STEPS = 1500
# All captures mask the same tokens of a text.
SEEDS = {"short": 17, "long": 18, "heldout": 19}


@dataclass(frozen=True)
class Teacher:
    """A teacher to train.

    Attributes:
      text: the files below `corpora` that it is trained on, without file extensions.
      tokenizer_text: the files that its tokenizer is trained on; the same by default.
      vocabulary: tokens.
      encoder: what differs from `ENCODER`.
    """

    name: str
    family: str
    text: tuple[str, ...]
    tokenizer_text: tuple[str, ...] = ()
    vocabulary: int = 4000
    steps: int = TEACHER_STEPS
    encoder: dict[str, Any] = field(default_factory=dict)


class Runs:
    """Collects steps and writes their configurations below `root/configs`."""

    def __init__(self, root: Path):
        self.root = root
        self.steps: list[Step] = []

    def teacher(self, teacher: Teacher) -> str:
        """Trains a teacher, `root/teachers/<name>`, with a checkpoint every 500 steps. Returns the step's name."""
        name = teacher.name
        files = [self._path(f"corpora/{file}.txt") for file in teacher.tokenizer_text or teacher.text]
        target = self._path(f"tokenizers/{name}")
        arguments = ("-m", "examples.demo.tokenizers", teacher.family, str(teacher.vocabulary), target, *files)
        self._add(f"tokenizer-{name}", arguments)
        for kind in LENGTHS:
            self.masked(name, target, teacher.text, kind, f"tokenizer-{name}")
        settings = {"model_type": MODEL_TYPES[teacher.family], **ENCODER, **teacher.encoder}
        config = self._training(f"teachers/{name}", f"masked/{name}", teacher.steps, RANDOM_RATE, TEACHERS_SHORT_SHARE)
        config |= {"student": {"settings": settings}, "distillation": {"kd_weight": 0}, "save_total_limit": 10}
        return self._command("trainer", name, config, *(f"text-{name}-{kind}" for kind in LENGTHS))

    def masked(self, name: str, tokenizer: str, text: tuple[str, ...], kind: str, *needs: str) -> str:
        """Masks text for the training of a teacher: `root/masked/<name>-<kind>`. Returns the step's name.

        Args:
          tokenizer: its folder.
          text: files below `corpora`, without file extensions.
          kind: of `LENGTHS`.
        """
        config = {
            "output": self._path(f"masked/{name}-{kind}"),
            "teachers": {name: {"model": tokenizer, "languages": ["text"]}},
            "text": {"text": [self._path(f"corpora/{file}.txt") for file in text]},
            "top_k": 0,
            "max_length": LENGTHS[kind],
            "masking": {"mlm_probability": 0.25, "copies": 2},
        }
        return self._command("pipeline", f"text-{name}-{kind}", config, *needs)

    def further(
        self, name: str, steps: int = TEACHER_STEPS, learning_rate: float = TRAINED_RATE, start_from: str = ""
    ) -> str:
        """Trains a teacher for more steps on `root/masked/<name>-long`, as `<name>-further`.

        Args:
          start_from: the name of the teacher whose tokenizer masked the text, if it has weights and is not a model of ours.
        """
        config = self._training(f"teachers/{name}-further", f"masked/{name}", steps, learning_rate)
        start = {"start_from": start_from or self._path(f"teachers/{name}")}
        config |= {"student": start, "distillation": {"kd_weight": 0}, "seed": 1}
        return self._command("trainer", f"{name}-further", config, name, f"text-{name}-long")

    def checkpoint(self, name: str, step: int) -> str:
        """Exports a teacher's checkpoint of a step, as `<name>-<step>`."""
        config, target = self._path(f"configs/{name}.yaml"), self._path(f"teachers/{name}-{step}")
        arguments = ("-m", "trainer.export", config, "--checkpoint", str(step), "--to", target)
        return self._add(f"{name}-{step}", arguments, name)

    def capture(
        self,
        name: str,
        teachers: Mapping[str, list[str] | dict[str, float]],
        kinds: tuple[str, ...] = ("long",),
        mixed_with: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        """Captures predictions on training and held-out text: `root/predictions/<name>-<kind>`, `root/heldout/<name>`.

        Args:
          teachers: of each language, with their shares of its text if they do not all read the whole text.
          kinds: of `LENGTHS`.
          mixed_with: by teacher, another one with the same vocabulary that it is averaged with.
          settings: of the pipeline, and `max_records` for each language.
        """
        names = list(dict.fromkeys(teacher for of_language in teachers.values() for teacher in of_language))
        max_records, mixed_with = settings.pop("max_records", None), mixed_with or {}
        config = {
            "teachers": {
                teacher: {
                    "model": self._path(f"teachers/{teacher}"),
                    "languages": {
                        language: of_language[teacher] if isinstance(of_language, dict) else "all"
                        for language, of_language in teachers.items()
                        if teacher in of_language
                    },
                    "mixed_with": [{"model": self._path(f"teachers/{mixed_with[teacher]}"), "weight": 0.5}]
                    if teacher in mixed_with
                    else [],
                }
                for teacher in names
            },
            "top_k": 8,
            "tail_samples": 8,
            "masking": {"mlm_probability": 0.25},
            "inference_threads": 1,
        } | settings
        splits = {kind: ("train", f"predictions/{name}-{kind}", LENGTHS[kind], max_records) for kind in kinds}
        splits["heldout"] = ("heldout", f"heldout/{name}", LENGTHS["long"], HELDOUT_CHAPTERS)
        for kind, (split, output, length, records) in splits.items():
            text = {
                language: {"files": [self._path(f"corpora/{language}/{split}.txt")], "max_records": records}
                for language in teachers
            }
            of_split = config | {"output": self._path(output), "text": text, "max_length": length, "seed": SEEDS[kind]}
            if split == "heldout":
                of_split["masking"] = HELDOUT_MASKING
            self._command("pipeline", f"{kind}-{name}", of_split, *names, *mixed_with.values())

    def student(
        self,
        name: str,
        capture: str,
        steps: int,
        student: dict[str, Any],
        both_lengths: bool = False,
        needs: tuple[str, ...] = (),
        **settings: Any,
    ) -> str:
        """Trains a student on a capture: `root/students/<name>`.

        Args:
          student: the `student` section of its configuration.
          needs: further steps whose files it reads.
          settings: replace whole sections of the configuration.
        """
        rate = TRAINED_RATE if "encoder_from" in student else RANDOM_RATE
        short_share = STUDENTS_SHORT_SHARE if both_lengths else 0
        config = self._training(f"students/{name}", f"predictions/{capture}", steps, rate, short_share)
        config["student"] = student
        config |= {"heldout": self._path(f"heldout/{capture}"), "eval_steps": 150, "distillation": DISTILLATION}
        kinds = (*(LENGTHS if both_lengths else ("long",)), "heldout")
        return self._command("trainer", name, config | settings, *(f"{kind}-{capture}" for kind in kinds), *needs)

    def evaluation(self, name: str, models: dict[str, dict[str, Any]], **tasks: Any) -> str:
        """Evaluates models, `root/evaluation/<name>`. The models' folders are below `root`."""
        config = {
            "output": self._path(f"evaluation/{name}"),
            "models": {name: model | {"model": self._path(model["model"])} for name, model in models.items()},
            "max_length": LENGTHS["long"],
            "fine_tuning": {"learning_rate": 1e-3, "epochs": 10, "max_length": LENGTHS["long"]},
        } | tasks
        needs = [Path(model["model"]).name for model in models.values()]
        return self._command("trainer.evaluation", f"evaluation-{name}", config, *needs)

    def predictions(self, capture: str) -> str:
        """The folder of a capture's predictions on long sequences."""
        return self._path(f"predictions/{capture}-long")

    def heldout_text(self, languages: list[str], records: int) -> dict[str, Any]:
        """The `text` section of an evaluation."""
        return {
            language: {"files": [self._path(f"corpora/{language}/heldout.txt")], "max_records": records}
            for language in languages
        }

    def tags(self, languages: list[str]) -> dict[str, Any]:
        """The `tagging` section of an evaluation."""
        return {
            language: {split: self._path(f"labels/{language}/tags-{split}.tsv") for split in ("train", "test")}
            for language in languages
        }

    def _training(
        self, output: str, predictions: str, steps: int, learning_rate: float, short_share: float = 0
    ) -> dict[str, Any]:
        config: dict[str, Any] = {
            "output": self._path(output),
            "predictions": self._path(f"{predictions}-long"),
            "optimizer": {"learning_rate": learning_rate, "warmup_steps": min(150, steps // 10)},
            "max_steps": steps,
            "batch_tokens": 1024,
            "save_steps": 500,
            "precision": "float32",
        }
        if short_share:
            config["stages"] = [{"until": short_share, "predictions": self._path(f"{predictions}-short")}, {}]
        return config

    def _path(self, path: str) -> str:
        return str(self.root / path)

    def _command(self, module: str, name: str, content: dict[str, Any], *needs: str) -> str:
        path = self.root / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        # The round trip through JSON keeps YAML from writing shared objects as references.
        path.write_text(yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False))
        return self._add(name, ("-m", module, str(path)), *needs)

    def _add(self, name: str, arguments: tuple[str, ...], *needs: str) -> str:
        self.steps.append(Step(name, arguments, needs))
        return name
