"""The reader: nothing lost, languages by p^alpha, and exact resumption."""

import json
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from schemas.errors import UserError
from schemas.manifest import open_predictions, read_manifest
from schemas.ragged import batches_by_length
from tests.support.columns import read_columns
from tests.support.readers import equal, reader, sequences, steps, take
from trainer.data.batches import Columns, Piece, make_batches
from trainer.data.futures import when_all
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
    # Where it was before it read anything, too.
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
            found = {
                lane: batch
                for rank, part in enumerate(parts)
                for lane, batch in zip(range(rank, 4, processes), part, strict=True)
            }
            assert all(equal(found[lane], expected[lane]) for lane in range(4))


def test_goes_on_with_another_number_of_processes(predictions):
    """Four lanes read by two processes, then by one, then by four."""
    whole = steps(reader(predictions, lanes=4, local_lanes=range(4)), 45)
    state, found = None, []
    for processes in (2, 1, 4):
        readers = [reader(predictions, lanes=4, local_lanes=range(rank, 4, processes)) for rank in range(processes)]
        lanes = {}
        for source in readers:
            if state:
                source.load_state(state)
        taken = [steps(source, 15) for source in readers]
        for number in range(15):
            found.append([taken[lane % processes][number][lane // processes] for lane in range(4)])
        for source in readers:
            lanes |= source.state()["lanes"]
        state = {"version": readers[0].state()["version"], "lanes": lanes}
    assert all(
        equal(a, b) for ours, theirs in zip(found, whole, strict=True) for a, b in zip(ours, theirs, strict=True)
    )


def test_lanes_share_out_every_epoch(predictions):
    """Each row group is read by one lane an epoch: over two epochs every row comes twice, and none is left out."""
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
    # A pool of one epoch's size is one epoch.
    stream = (batch for (batch,) in reader(predictions, languages=["ru"], shuffle_rows=len(expected)))
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


@pytest.mark.parametrize("max_tokens", [1, 30, 128, 10**6])
@pytest.mark.parametrize("max_count", [None, 1, 12])
def test_batches_by_length_are_filled_one_row_after_the_other(max_tokens, max_count):
    random = np.random.default_rng(1)
    lengths, counts = random.integers(1, 50, 300), random.integers(0, 9, 300)
    order = random.permutation(300)
    expected = [[]]
    for row in sorted(order, key=lambda row: lengths[row]):
        filled = [*expected[-1], row]
        is_over = lengths[row] * len(filled) > max_tokens or max_count and counts[filled].sum() > max_count
        expected[-1:] = [expected[-1], [row]] if is_over and expected[-1] else [filled]
    limits = (counts, max_count) if max_count else ()
    assert [batch.tolist() for batch in batches_by_length(lengths, order, max_tokens, *limits)] == expected


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


def test_gathering_rows(predictions):
    """Against pandas, row by row: parts of two row groups, in another order."""
    opened = open_predictions(str(predictions))
    file = next(file for file in opened.files if len(file.record.row_groups) > 1)
    frame = pd.read_parquet(file.url)
    first = file.record.row_groups[0]
    parts = [(read_columns(file, 0, 8), slice(3, 9)), (read_columns(file, 1, 8), slice(0, 4))]
    rows = [*range(3, 9), *range(first, first + 4)]
    order = np.random.default_rng(0).permutation(10)
    gathered = Columns.gather(parts, order)
    for name in ("input_ids", "masked_positions", "labels", "label_logprobs", "topk_ids", "topk_logprobs"):
        ends = np.cumsum(gathered.lengths(name))
        assert len(gathered.values(name)) == ends[-1]
        for found, index in zip(np.split(gathered.values(name), ends[:-1]), order, strict=True):
            assert np.array_equal(found, frame.iloc[rows[index]][name])
    piece = Piece(parts[0][0], slice(0, 5), 1, 2, file, 0)
    batches = make_batches([piece], 10**6, 0)
    assert (
        len(batches) == 1
        and set(batches[0].language_M.tolist()) == {1}
        and batches[0].tokens == parts[0][0].lengths("input_ids")[:5].sum()
    )


def test_work_for_which_all_futures_are_awaited_runs_once_and_is_let_go():
    first, second, names = Future(), Future(), []
    work = lambda: names.append(threading.current_thread().name) or len(names)  # noqa: E731
    with ThreadPoolExecutor(1, "pool") as executor:
        result = when_all([first, second], work, executor)
        alive = weakref.ref(work), weakref.ref(result)
        second.set_result(None)
        assert not result.done()
        ending = threading.Thread(target=first.set_exception, args=(KeyError(),), name="last")
        ending.start()
        ending.join()
        assert result.result(timeout=10) == 1 and names == ["last"]
        assert when_all([first, second], lambda: threading.current_thread().name, executor).result() == "pool_0"
        assert isinstance(when_all([first], first.result, executor).exception(), KeyError)
    # Though its futures live on.
    del work, result
    assert [reference() for reference in alive] == [None, None]


def test_of_many_threads_one_runs_the_work():
    with ThreadPoolExecutor(8) as executor:
        for _ in range(200):
            done = []
            futures = [executor.submit(int) for _ in range(8)]
            assert when_all(futures, lambda done=done: done.append(1), executor).result(timeout=10) is None
            assert done == [1]
