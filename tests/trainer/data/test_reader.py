"""The reader: no row is lost, languages are drawn by p^alpha, and it resumes exactly."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from schemas.errors import UserError
from schemas.manifest import read_manifest
from schemas.predictions import open_predictions
from tests.support.columns import read_columns
from tests.support.readers import equal, reader, sequences, steps, take
from trainer.data.reader import example_ids


@pytest.mark.parametrize("stop", [1, 7, 23, 60])
def test_resumes_exactly(predictions, stop):
    whole = take(reader(predictions), stop + 30)
    first = reader(predictions)
    take(first, stop)
    state = json.loads(json.dumps(first.state()))
    second = reader(predictions)
    second.load_state(state)
    assert all(equal(a, b) for a, b in zip(take(second, 30), whole[stop:], strict=True))
    # The state is also right before anything was read.
    assert second.state() != state and reader(predictions).state()["lanes"]["0"]["batch"] == 0


def test_its_state_does_not_grow(predictions):
    source = reader(predictions)
    take(source, 3)
    early = json.dumps(source.state())
    take(source, 900)
    assert source.state()["lanes"]["0"]["pool"] > 20
    assert len(json.dumps(source.state())) < len(early) + 20


def test_any_number_of_threads_and_processes_reads_the_same_steps(predictions):
    whole = steps(reader(predictions, lanes=4, local_lanes=range(4), threads=1), 25)
    for processes in (1, 2, 4):
        readers = [
            reader(predictions, lanes=4, local_lanes=range(rank, 4, processes), threads=3) for rank in range(processes)
        ]
        for expected, *parts in zip(whole, *(steps(source, 25) for source in readers), strict=True):
            actual = {
                lane: batch
                for rank, part in enumerate(parts)
                for lane, batch in zip(range(rank, 4, processes), part, strict=True)
            }
            assert all(equal(actual[lane], expected[lane]) for lane in range(4))


def test_goes_on_with_another_number_of_processes(predictions):
    """Two processes read four lanes, then one, then four."""
    whole = steps(reader(predictions, lanes=4, local_lanes=range(4)), 45)
    state, actual = None, []
    for processes in (2, 1, 4):
        readers = [reader(predictions, lanes=4, local_lanes=range(rank, 4, processes)) for rank in range(processes)]
        lanes = {}
        for source in readers:
            if state:
                source.load_state(state)
        taken = [steps(source, 15) for source in readers]
        actual += [[taken[lane % processes][number][lane // processes] for lane in range(4)] for number in range(15)]
        for source in readers:
            lanes |= source.state()["lanes"]
        state = {"version": readers[0].state()["version"], "lanes": lanes}
    assert all(
        equal(a, b) for ours, theirs in zip(actual, whole, strict=True) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.heavy
def test_lanes_share_out_every_epoch(predictions):
    """In each epoch one lane reads each row group: over two epochs every row comes twice, and none is left out."""
    frame = pd.read_parquet(predictions)
    expected = sorted(frame[frame.language == "hi"].example_id)
    opened = open_predictions(str(predictions))
    groups = sum(len(file.record.row_groups) for file in opened.files if file.record.language == "hi")
    lanes = 3
    source = reader(predictions, languages=["hi"], lanes=lanes, local_lanes=range(lanes), shuffle_rows=16)
    seen: dict[str, list] = {}
    for batches in steps(source, 400):
        for lane, batch in enumerate(batches):
            for name in example_ids(batch.origins, range(len(batch.input_ids_BL))):
                seen.setdefault(name, []).append(lane)
    assert sorted(seen) == expected and groups > lanes
    counts = [len(lanes_of) for lanes_of in seen.values()]
    assert max(counts) - min(counts) <= 3


def test_another_seed_gives_another_order(predictions):
    assert sequences(take(reader(predictions), 5)) != sequences(take(reader(predictions, seed=4), 5))


def test_an_epoch_is_every_row_once(predictions):
    frame = pd.read_parquet(predictions)
    expected = sorted(tuple(ids) for ids in frame[frame.language == "ru"].input_ids)
    # A pool with as many rows as an epoch is one epoch.
    stream = (batch for (batch,) in reader(predictions, languages=["ru"], shuffle_rows=len(expected)))
    epochs = []
    for _ in range(2):
        epoch = []
        while len(epoch) < len(expected):
            epoch += sequences([next(stream)])
        assert sorted(epoch) == expected
        epochs.append(epoch)
    assert epochs[0] != epochs[1]


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


@pytest.mark.heavy
def test_a_stray_or_broken_file_is_named(run_pipeline, predictions, tmp_path):
    other = run_pipeline(tmp_path / "other", token_identity="string")
    ours, theirs = open_predictions(str(predictions)).files[0], open_predictions(str(other)).files[0]
    stray = replace(ours, url=theirs.url)
    with pytest.raises(
        UserError, match=f"{stray.url}: row group 0: mergedistill.vocabulary_sha256 is .*, but the manifest says"
    ):
        read_columns(stray, 0, 8)
    whole = Path(theirs.url).read_bytes()
    broken = replace(theirs, url=f"{tmp_path}/broken.parquet")
    Path(broken.url).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=f"{broken.url}: row group 0 cannot be read"):
        read_columns(broken, 0, 8)


def test_example_ids_are_those_of_the_rows(predictions):
    frame = pd.read_parquet(predictions).set_index("example_id")
    for batch in take(reader(predictions), 5):
        rows = frame.loc[example_ids(batch.origins, range(len(batch.input_ids_BL)))]
        assert [tuple(ids) for ids in rows.input_ids] == sequences([batch])
        source = reader(predictions)
        assert {source.teachers[number] for number in batch.teacher_M.tolist()} == set(rows.teacher)


def test_gold_tokens_alone_can_be_read(predictions):
    file = open_predictions(str(predictions)).files[0]
    gold, both = read_columns(file, 0, 0), read_columns(file, 0, 8)
    label_logprobs, topk_ids, _ = gold.teachers()
    assert topk_ids.shape == (len(both.values("labels")), 0) and np.isnan(label_logprobs).all()
    for name in ("labels", "input_ids", "masked_positions"):
        assert np.array_equal(gold.values(name), both.values(name))
