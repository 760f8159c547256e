"""Small runs of the pipeline."""

import random

import pytest

from pipeline.config import PipelineConfig
from tests.support import world


@pytest.fixture
def english(pipeline_settings, teachers, tmp_path):
    """A function that runs the English teacher over given text and returns the output folder."""
    from pipeline.job.launcher import run_pipeline

    def run(text, name: str = "p", teacher: str = "en-wordpiece", **changes):
        settings = pipeline_settings(tmp_path / name, **changes) | {
            "teachers": {teacher: {"model": str(teachers / teacher), "languages": ["en"], "dtype": "float32"}},
            "text": {"en": text},
        }
        run_pipeline(PipelineConfig.model_validate(settings), [])
        return tmp_path / name

    return run


@pytest.fixture
def short_lines(tmp_path):
    """A function that makes a file of short lines of a language, with words that the teachers do not know."""

    def make(language: str) -> tuple[str, list[str]]:
        source = random.Random(language)
        words = [word for phrase in world.WORDS[language] for word in phrase.split()]
        words += [word[::-1] for word in words]
        lines = [" ".join(source.choices(words, k=source.randint(1, 2))) for _ in range(300)]
        (tmp_path / f"{language}.txt").write_text("\n".join(lines))
        return str(tmp_path / f"{language}.txt"), lines

    return make
