"""The audit: the stored top-k compared with the whole distribution."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForMaskedLM

from pipeline.shard.audit import kl_from_full, sampled_difference
from schemas.manifest import read_manifest
from schemas.vocabulary import VOCABULARY_FILE
from tests.support.outputs import rows


@pytest.mark.heavy
@torch.no_grad()
def test_the_audit_is_what_plain_transformers_say(english, text, teachers):
    """All rows are audited, and each figure is recomputed from the files with dense distributions."""
    folder = english([str(text / "en.txt")], audit_rows=10_000)
    (record,) = read_manifest(str(folder)).languages
    frame = rows(folder)
    to_teacher = pd.read_parquet(folder / VOCABULARY_FILE)["en-wordpiece"]
    model = AutoModelForMaskedLM.from_pretrained(teachers / "en-wordpiece").eval()
    kl, kl_exact, tail, correct = [], [], [], []
    for row in frame.itertuples():
        ids = torch.tensor(to_teacher[row.input_ids].to_numpy(np.int64))[None]
        full = model(input_ids=ids).logits[0, row.masked_positions.tolist()].double().log_softmax(-1)
        top = torch.tensor(to_teacher[row.topk_ids].to_numpy(np.int64)).reshape(-1, 8)
        for stored, actual in (
            (torch.tensor(row.topk_logprobs.reshape(-1, 8)).double(), kl),
            (full.gather(1, top), kl_exact),
        ):
            rest = (1 - stored.exp().sum(1, keepdim=True)) / (full.shape[1] - 8)
            kept = rest.log().expand_as(full).scatter(1, top, stored)
            actual += (full.exp() * (full - kept)).sum(1).tolist()
        tail += (1 - full.gather(1, top).exp().sum(1)).tolist()
        correct += (top[:, 0].numpy() == to_teacher[row.labels].to_numpy()).tolist()
    audit = record.audit
    assert (audit.rows, audit.positions) == (len(frame), len(kl))
    np.testing.assert_allclose(
        [audit.kl, audit.kl_top_k, audit.tail_mass, audit.accuracy],
        [np.mean(kl), np.mean(kl_exact), np.mean(tail), np.mean(correct)],
        atol=1e-5,
    )
    assert 0 <= audit.kl - audit.kl_top_k < 0.001


def test_the_audit_notices_what_is_wrong():
    full = np.log(np.array([[0.5, 0.3, 0.1, 0.06, 0.04]]))
    ids = np.array([[0, 1]])
    right = kl_from_full(full, ids, np.log([[0.5, 0.3]]))
    assert right == pytest.approx(0.1 * np.log(1.5) + 0.06 * np.log(0.9) + 0.04 * np.log(0.6))
    assert kl_from_full(full, ids[:, ::-1], np.log([[0.5, 0.3]])) > right + 0.05
    assert kl_from_full(full, ids, np.log([[0.6, 0.3]])) > right + 0.01


def test_the_estimate_has_the_losss_smallest_tail():
    """This holds even if float16 has rounded the top-k's mass up to 1 or more."""
    full = np.log(np.array([[0.6, 0.4 - 1e-9, 1e-9]]))
    ids, samples = np.array([[0, 1]]), np.array([[2]])
    exact = -(np.exp(full) * full).sum()
    for stored in ([[0.6, 0.4]], [[0.6, 0.4002]]):
        estimate = -(np.array(stored) * full[:, :2]).sum() - (1 - np.exp(-1e-6)) * full[0, 2]
        assert sampled_difference(full, ids, np.log(stored), samples) == pytest.approx([estimate - exact], rel=1e-6)
