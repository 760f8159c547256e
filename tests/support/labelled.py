"""Labelled text that models can learn, models to learn it, and configurations with both."""

import random
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from pipeline.vocabulary.merge import merge
from tests.support import world
from tests.support.teachers import load, make_default, remapped
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.models import Model

LEARNER = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.1,
}
NOUNS = {"en": ["river", "teacher", "house", "sea"], "ru": ["река", "учитель", "дом", "море"]}
VERBS = {"en": ["writes", "remembers", "sings"], "ru": ["пишет", "помнит", "поёт"]}


def tagged(language: str, count: int, seed: int = 0) -> list[list[tuple[str, str]]]:
    """Returns `count` sentences of nouns, verbs and punctuation with their parts of speech."""
    source = random.Random(f"{language} {seed}")
    kinds = [("NOUN", NOUNS[language]), ("VERB", VERBS[language]), ("PUNCT", [",", ";", ")"])]
    return [
        [(source.choice(words), tag) for tag, words in (source.choice(kinds) for _ in range(source.randint(1, 8)))]
        for _ in range(count)
    ]


def write_tsv(path: Path, sentences: list[list[tuple[str, str]]]) -> str:
    """Writes sentences as token TSV; returns the path for a configuration."""
    text = "\n\n".join("\n".join(f"{word}\t{label}" for word, label in sentence) for sentence in sentences)
    path.write_text(text + "\n", encoding="utf-8")
    return str(path)


def make_student(folder: Path, teachers: Path) -> Path:
    """Makes a random student in the layout of an export: a default tokenizer, and one for each language, in merged ids."""
    loaded = [load(teachers / name, name) for name in world.TEACHERS]
    make_default(loaded, folder)
    for name, (tokenizer, _) in remapped(loaded).items():
        tokenizer.save_pretrained(folder / "tokenizers" / world.TEACHERS[name])
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        "xlm-roberta",
        vocab_size=len(merge(loaded)),
        pad_token_id=0,
        max_position_embeddings=40,
        **LEARNER,
    )
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    return folder


def make_learner(folder: Path, teacher: Path) -> Path:
    """Makes a random model with a teacher's tokenizer and type, which learns faster than the teacher."""
    AutoTokenizer.from_pretrained(teacher).save_pretrained(folder)
    config = AutoConfig.from_pretrained(teacher)
    config.update(LEARNER)
    torch.manual_seed(3)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    return folder


def evaluation(folder: Path, **settings) -> EvaluationConfig:
    """Returns a configuration of a task, with models by name, that learns fast."""
    fine_tuning = {"learning_rate": 1e-2, "epochs": 4, "batch_size": 8, "max_length": 24}
    return EvaluationConfig.model_validate(
        {"output": str(folder / "output"), "fine_tuning": fine_tuning | settings.pop("fine_tuning", {})} | settings
    )


def load_model(config: EvaluationConfig, name: str) -> Model:
    return Model(name, config.models[name], torch.device("cpu"))


def run_task(task_class, config: EvaluationConfig, name: str, language: str | None = None) -> dict:
    """Returns the scores of a model's first job (for a language), by test language."""
    task = task_class.from_config(config)
    jobs = [job for job in task.jobs(name, config.models[name]) if language in (None, job.language)]
    return {scores.language: scores for scores in task.run(jobs[0], load_model(config, name))}
