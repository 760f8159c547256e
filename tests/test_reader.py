"""The reader: nothing lost, languages by p^alpha, and exact resumption."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from schemas.errors import UserError
from schemas.manifest import open_predictions, read_manifest
from schemas.ragged import batches_by_length
from trainer.collate import Rows
from trainer.config import SamplingConfig
from trainer.reader import Reader, read_row_group


def reader(folder, seed: int = 3, batch_tokens: int = 400, **sampling) -> Reader:
    opened = open_predictions(*([str(folder)] if isinstance(folder, str | Path) else map(str, folder)))
    return Reader(opened, SamplingConfig(**{"shuffle_rows": 100} | sampling), batch_tokens, seed)


def take(source: Reader, count: int) -> list:
    return list(islice(iter(source), count))


def equal(one, other) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def sequences(batches) -> list[tuple[int, ...]]:
    """Every row of the batches without its padding."""
    return [
        tuple(ids[mask.bool()].tolist())
        for batch in batches
        for ids, mask in zip(batch.input_ids_BL, batch.attention_mask_BL, strict=True)
    ]


@pytest.mark.parametrize("stop", [1, 7, 23, 60])
def test_resumes_exactly(predictions, stop):
    whole = take(reader(predictions), stop + 30)
    first = reader(predictions)
    take(first, stop)
    state = first.state()
    second = reader(predictions)
    second.load_state(state)
    assert all(equal(a, b) for a, b in zip(take(second, 30), whole[stop:], strict=True))


def test_another_seed_gives_another_order(predictions):
    assert sequences(take(reader(predictions), 5)) != sequences(take(reader(predictions, seed=4), 5))


def test_an_epoch_is_every_row_once(predictions):
    frame = pd.read_parquet(predictions)
    expected = sorted(tuple(ids) for ids in frame[frame.language == "ru"].input_ids)
    # A pool of one epoch's size is one epoch.
    stream = iter(reader(predictions, languages=["ru"], shuffle_rows=len(expected)))
    epochs = []
    for _ in range(2):
        epoch = []
        while len(epoch) < len(expected):
            epoch += sequences([next(stream)])
        assert sorted(epoch) == expected
        epochs.append(epoch)
    assert epochs[0] != epochs[1]


def test_batches_hold_the_rows_columns(predictions):
    frame = pd.read_parquet(predictions)
    by_ids = {(row.language, tuple(row.input_ids)): row for row in frame.itertuples()}
    source = reader(predictions)
    for batch in take(source, 20):
        start = 0
        width = batch.input_ids_BL.shape[1]
        for index, (ids, mask) in enumerate(zip(batch.input_ids_BL, batch.attention_mask_BL, strict=True)):
            count = ((batch.rows_M // width) == index).sum().item()
            part = slice(start, start + count)
            language = source.languages[batch.language_M[start]]
            row = by_ids[language, tuple(ids[mask.bool()].tolist())]
            assert (batch.rows_M[part] % width).tolist() == row.masked_positions.tolist()
            assert batch.labels_M[part].tolist() == row.labels.tolist()
            assert batch.topk_ids_MK[part].flatten().tolist() == row.topk_ids.tolist()
            assert batch.topk_logprobs_MK[part].flatten().half().numpy().tolist() == row.topk_logprobs.tolist()
            assert np.array_equal(batch.label_logprobs_M[part].numpy(), row.label_logprobs)
            start += count
        assert start == len(batch.labels_M)
        assert batch.input_ids_BL.numel() <= 400


def test_languages_are_drawn_by_p_to_the_alpha(predictions):
    manifest = read_manifest(str(predictions))
    for alpha in (0.0, 0.5, 1.0):
        source = reader(predictions, alpha=alpha)
        masked = [sum(f.masked_positions for f in manifest.files if f.language == name) for name in source.languages]
        expected = np.array(masked, float) ** alpha
        drawn = np.bincount(np.concatenate([batch.language_M for batch in take(source, 600)]), minlength=3)
        assert drawn.sum() > 10000
        np.testing.assert_allclose(drawn / drawn.sum(), expected / expected.sum(), atol=0.02)


def test_unknown_language(predictions):
    with pytest.raises(UserError, match="unknown language 'xx'.*en, hi, ru"):
        reader(predictions, languages=["en", "xx"])


def test_a_stray_or_broken_file_is_named(run_pipeline, predictions, tmp_path):
    other = run_pipeline(tmp_path / "other", identity="string")
    ours, theirs = open_predictions(str(predictions)).files[0], open_predictions(str(other)).files[0]
    stray = replace(ours, url=theirs.url)
    with pytest.raises(UserError, match=f"{stray.url}: mergedistill.vocabulary_sha256 is .*, but the manifest says"):
        read_row_group(stray, 0)
    whole = Path(theirs.url).read_bytes()
    Path(theirs.url).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=f"{theirs.url}: row group 0 cannot be read"):
        read_row_group(theirs, 0)


def test_batches_by_length_keep_their_limits():
    random = np.random.default_rng(0)
    lengths, counts = random.integers(1, 50, 500), random.integers(0, 9, 500)
    order = random.permutation(500)
    batches = batches_by_length(lengths, order, 128, counts, 12)
    assert sorted(np.concatenate(batches)) == list(range(500))
    for batch in batches:
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= 128
        assert len(batch) == 1 or counts[batch].sum() <= 12
    # Only neighbours in length share a batch, so padding is small.
    assert sum(lengths[b].max() * len(b) for b in batches) < 1.02 * lengths.sum()
    assert batches_by_length(lengths[:0], order[:0], 128) == []


def test_collating_no_rows_of_a_language(predictions):
    opened = open_predictions(str(predictions))
    file = opened.files[0]
    rows = Rows(read_row_group(file, 0), [file.record.language], file.top_k, opened.vocabulary.id_of("pad"))
    assert len(rows.collate(np.array([0, 1])).input_ids_BL) == 2
