"""The runs behind the claims: teachers, captures of their predictions, and students, as configurations and steps.

All are small: two layers of width 128, 4,000 tokens a teacher, sequences of 32 tokens.
"""

import json
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
    # RoBERTa counts positions from the padding id on, so 32 tokens need 2 more.
    "max_position_embeddings": 34,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.06,
    "attn_implementation": "eager",
}
MAX_LENGTH = 32
TEACHER_STEPS = 2000
STUDENT_STEPS = 2000
# The model type whose users use a tokenizer family.
MODEL_TYPES = {"wordpiece": "bert", "unigram": "xlm-roberta", "bpe": "roberta"}


@dataclass(frozen=True)
class Teacher:
    """A teacher to train.

    Attributes:
      text: the files below `corpora` that it is trained on, without ending.
      tokenizer_text: the files that its tokenizer is trained on; default the same.
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
        """Trains a teacher; gives the step's name. Its folder is `root/teachers/<name>`, with a checkpoint every 500 steps."""
        tokenizer, text = f"tokenizer-{teacher.name}", f"text-{teacher.name}"
        files = [str(self.root / "corpora" / f"{name}.txt") for name in teacher.tokenizer_text or teacher.text]
        target = str(self.root / "tokenizers" / teacher.name)
        module = "examples.demo.tokenizers"
        self._add(tokenizer, ("-m", module, teacher.family, str(teacher.vocabulary), target, *files))
        masked = {
            "output": str(self.root / "masked" / teacher.name),
            "teachers": {teacher.name: {"model": target, "languages": ["text"]}},
            "text": {"text": [str(self.root / "corpora" / f"{name}.txt") for name in teacher.text]},
            "top_k": 0,
            "max_length": MAX_LENGTH,
            "masking": {"mlm_probability": 0.25, "copies": 3},
        }
        self._add(text, ("-m", "pipeline", self._config(text, masked)), tokenizer)
        config = self._training(f"teachers/{teacher.name}", f"masked/{teacher.name}", teacher.steps)
        config |= {
            "student": {"settings": {"model_type": MODEL_TYPES[teacher.family], **ENCODER, **teacher.encoder}},
            "distillation": {"kd_weight": 0},
            "save_total_limit": 10,
        }
        return self._add(teacher.name, ("-m", "trainer", self._config(teacher.name, config)), text)

    def further(self, name: str, steps: int) -> str:
        """Trains a teacher so many steps further, as `<name>-further`."""
        config = self._training(f"teachers/{name}-further", f"masked/{name}", steps)
        config |= {
            "student": {"start_from": str(self.root / "teachers" / name)},
            "distillation": {"kd_weight": 0},
            "seed": 1,
        }
        further = f"{name}-further"
        return self._add(further, ("-m", "trainer", self._config(further, config)), name)

    def checkpoint(self, name: str, step: int) -> str:
        """A teacher as it was after a step, as `<name>-<step>`."""
        early = f"{name}-{step}"
        config, target = str(self.root / "configs" / f"{name}.yaml"), str(self.root / "teachers" / early)
        arguments = ("-m", "trainer.export", config, "--checkpoint", str(step), "--to", target)
        return self._add(early, arguments, name)

    def capture(self, name: str, languages: dict[str, list[str]], **settings: Any) -> str:
        """Captures predictions on the training and the held-out text: `root/predictions/<name>`, `root/heldout/<name>`.

        Args:
          languages: the teachers of each language.
        """
        names = list(dict.fromkeys(teacher for teachers in languages.values() for teacher in teachers))
        config = {
            "teachers": {
                teacher: {
                    "model": str(self.root / "teachers" / teacher),
                    "languages": [language for language, teachers in languages.items() if teacher in teachers],
                }
                for teacher in names
            },
            "top_k": 8,
            "max_length": MAX_LENGTH,
            "masking": {"mlm_probability": 0.25},
            "inference_threads": 1,
        } | settings
        for split, seed in (("train", 17), ("heldout", 18)):
            folder = "predictions" if split == "train" else "heldout"
            text = {language: [str(self.root / "corpora" / language / f"{split}.txt")] for language in languages}
            of_split = config | {"output": str(self.root / folder / name), "text": text, "seed": seed}
            if split == "heldout":
                # All targets are masked, so that none can be copied from the input.
                of_split["masking"] = {"mlm_probability": 0.25, "mask_replace_prob": 1.0, "random_replace_prob": 0.0}
            step = f"{folder}-{name}"
            self._add(step, ("-m", "pipeline", self._config(step, of_split)), *names)
        return f"predictions-{name}"

    def student(self, name: str, capture: str, steps: int = STUDENT_STEPS, **settings: Any) -> str:
        """Trains a student on a capture: `root/students/<name>`. `settings` replace whole sections of the configuration."""
        config = self._training(f"students/{name}", f"predictions/{capture}", steps)
        config |= {
            "heldout": str(self.root / "heldout" / capture),
            "eval_steps": 100,
            "distillation": {"kd_weight": 0.8},
        }
        config |= settings
        needs = (f"predictions-{capture}", f"heldout-{capture}")
        return self._add(name, ("-m", "trainer", self._config(name, config)), *needs)

    def _training(self, output: str, predictions: str, steps: int) -> dict[str, Any]:
        return {
            "output": str(self.root / output),
            "predictions": str(self.root / predictions),
            "optimizer": {"learning_rate": 1e-3, "warmup_steps": min(150, steps // 10)},
            "max_steps": steps,
            "batch_tokens": 1024,
            "save_steps": 500,
            "precision": "float32",
        }

    def _config(self, name: str, content: dict[str, Any]) -> str:
        path = self.root / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        # By way of JSON, so that nothing is written as a reference to what was written before.
        path.write_text(yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False))
        return str(path)

    def _add(self, name: str, arguments: tuple[str, ...], *needs: str) -> str:
        self.steps.append(Step(name, arguments, needs))
        return name
