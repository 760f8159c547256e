"""Evaluation on held-out text, and which held-out text is accepted."""

import json

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForMaskedLM

from schemas.predictions import open_predictions
from tests.support import world
from tests.support.training import (
    train,
    write_config,
)


@torch.no_grad()
def test_evaluation_is_what_plain_transformers_gives(student, heldout):
    """Accuracy and NLL of student and teacher are computed from the rows, one at a time."""
    import pandas as pd

    model = AutoModelForMaskedLM.from_pretrained(student).eval()
    frame = pd.read_parquet(heldout)
    for language, result in json.loads((student / "evaluation.json").read_text())["languages"].items():
        rows = frame[frame.language == language]
        right = nll = positions = teacher_right = teacher_nll = 0
        for row in rows.itertuples():
            logits = model(input_ids=torch.tensor(row.input_ids)[None].long()).logits[0, row.masked_positions.tolist()]
            labels = torch.tensor(row.labels).long()
            positions += len(labels)
            right += (logits.argmax(-1) == labels).sum().item()
            nll += functional.cross_entropy(logits, labels, reduction="sum").item()
            teacher_right += (row.topk_ids[::8] == row.labels).sum()
            teacher_nll -= row.label_logprobs.sum()
        assert result["positions"] == positions
        assert result["accuracy"] == pytest.approx(right / positions, abs=1.5 / positions)
        assert result["nll"] == pytest.approx(nll / positions, rel=1e-4)
        assert result["teacher_accuracy"] == pytest.approx(teacher_right / positions)
        assert result["teacher_nll"] == pytest.approx(teacher_nll / positions, rel=1e-5)


@pytest.mark.heavy
def test_heldout_over_another_vocabulary_is_refused(predictions, run_pipeline, tmp_path):
    other = run_pipeline(tmp_path / "other", token_identity="string")
    done = train(write_config(tmp_path, predictions, other))
    assert done.returncode == 2
    for folder in (predictions, other):
        assert open_predictions(str(folder)).vocabulary.sha256 in done.stderr


@pytest.mark.heavy
def test_heldout_sequences_must_fit_the_student(run_pipeline, heldout, tmp_path):
    short = run_pipeline(tmp_path / "short", max_length=16)
    settings = {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 2, "max_position_embeddings": 16}
    done = train(write_config(tmp_path, short, heldout, student={"settings": settings}))
    assert done.returncode == 2 and f"set it to at least {world.MAX_LENGTH}" in done.stderr
