"""A language with rows of two teachers, which have different tokenizers, through the whole trainer."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer

from pipeline.drift import report
from pipeline.trim.folders import trim
from schemas.manifest import TEACHER_TOKENIZERS
from schemas.predictions import open_predictions
from tests.support.readers import reader, take
from tests.support.training import train, write_config
from trainer.config import SamplingConfig
from trainer.data.plan import make_mixture
from trainer.loop.step import owned_tokens

SHARES = {"en-wordpiece": {"en": 0.7}, "ru-unigram": {"ru": "all", "en": 0.3}, "hi-bpe": {"hi": "all"}}


@pytest.fixture(scope="module")
def shared(run_pipeline, pipeline_settings, tmp_path_factory) -> tuple[Path, Path]:
    """Predictions for training, and held-out ones."""
    folder = tmp_path_factory.mktemp("shared")
    settings = pipeline_settings(folder)["teachers"]
    teachers = {name: settings[name] | {"languages": languages} for name, languages in SHARES.items()}
    training, heldout = (
        run_pipeline(folder / name, suffix=suffix, teachers=teachers)
        for name, suffix in (("training", ""), ("heldout", ".heldout"))
    )
    return training, heldout


@pytest.fixture(scope="module")
def trained(shared, tmp_path_factory) -> Path:
    """A student that starts from its teachers' rows, and normalizes over the tokens of each row's teacher."""
    folder = tmp_path_factory.mktemp("trained")
    done = train(
        write_config(
            folder,
            *shared,
            student={
                "settings": {
                    "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                    "intermediate_size": 32, "max_position_embeddings": 24,
                },
                "embeddings_from_teachers": True,
            },
            distillation={"normalize": "teacher"},
            max_steps=8,
        )
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "student"


def test_every_row_has_its_own_teacher(shared):
    """The batches have what `normalize: teacher` needs: each position's teacher owns all tokens that its row predicts."""
    source = reader(shared[0], languages=["en"])
    owned_TV = owned_tokens(open_predictions(str(shared[0])).vocabulary, source.teachers)
    frame = pd.read_parquet(shared[0])
    teacher_of = {tuple(row.input_ids): row.teacher for row in frame[frame.language == "en"].itertuples()}
    seen = set()
    for batch in take(source, 12):
        assert owned_TV[batch.teacher_M].gather(1, batch.topk_ids_MK.long()).all()
        assert owned_TV[batch.teacher_M, batch.labels_M.long()].all()
        rows = (batch.rows_M // batch.input_ids_BL.shape[1]).tolist()
        for row, teacher in zip(rows, batch.teacher_M.tolist(), strict=True):
            length = int(batch.attention_mask_BL[row].sum())
            name = source.teachers[teacher]
            assert teacher_of[tuple(batch.input_ids_BL[row, :length].tolist())] == name
            seen.add(name)
    assert seen == {"en-wordpiece", "ru-unigram"}


def test_a_language_is_sampled_by_all_of_its_positions(shared):
    frame = pd.read_parquet(shared[0])
    positions = frame.labels.str.len().groupby(frame.language).sum()
    mixture = make_mixture(open_predictions(str(shared[0])), SamplingConfig(alpha=0.5), 0, 1)
    expected = positions**0.5 * frame.groupby("language").size() / positions
    assert list(mixture.languages) == list(expected.index)
    np.testing.assert_allclose(mixture.row_shares, expected / expected.sum())


def test_the_teachers_figures_are_means_over_the_rows_of_both(shared, trained):
    frame = pd.read_parquet(shared[1])
    scores = json.loads((trained / "evaluation.json").read_text())["languages"]
    for language, rows in frame.groupby("language"):
        exploded = rows.explode(["labels", "label_logprobs"])
        first = np.concatenate([ids[::8] for ids in rows.topk_ids])
        assert scores[language]["positions"] == len(exploded)
        assert scores[language]["teacher_nll"] == pytest.approx(-exploded.label_logprobs.astype(float).mean(), rel=1e-5)
        assert scores[language]["teacher_accuracy"] == pytest.approx((exploded.labels.to_numpy() == first).mean())
    assert frame[frame.language == "en"].teacher.nunique() == 2


def test_what_is_exported(shared, trained):
    opened = open_predictions(str(shared[0]))
    assert opened.teacher_of("en") == "en-wordpiece"
    exported = AutoTokenizer.from_pretrained(trained, subfolder="tokenizers/en")
    of_first = AutoTokenizer.from_pretrained(shared[0] / TEACHER_TOKENIZERS / "en-wordpiece")
    line = "the river remembers (the sea)"
    assert exported(line)["input_ids"] == of_first(line)["input_ids"]
    # Without the spaces that align the tables.
    card = re.sub(" +", " ", (trained / "README.md").read_text())
    rows = sum(file.record.rows for file in opened.files if file.record.language == "en")
    assert f"| en | en-wordpiece ru-unigram | {rows:,} |" in card
    assert "| ru en |" in card


def test_trimmed_predictions_have_both_teachers(shared, tmp_path):
    before = open_predictions(str(shared[0]))
    trim(before, str(tmp_path / "trimmed"))
    after = open_predictions(str(tmp_path / "trimmed"))
    # Trimming keeps every token that the rows emit, and so every row.
    counts = [
        {(record.language, record.teacher): (record.records, record.rows) for record in opened.manifests[0].languages}
        for opened in (before, after)
    ]
    assert counts[0] == counts[1] and {("en", "en-wordpiece"), ("en", "ru-unigram")} < counts[0].keys()


def test_the_drift_report_compares_with_the_first_teacher(shared, text, capsys):
    figures = report(open_predictions(str(shared[0])), {"en": [str(text / "en.heldout.txt")]})
    assert figures["languages"]["en"]["teacher"] == "en-wordpiece"
