"""Damaged folders of predictions: every reader rejects damage that would change training, with a one-line error."""

import random
import shutil
import signal
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipeline.trim.folders import trim
from schemas.errors import UserError, printable
from schemas.inspect import inspect_row, measure, summarize
from schemas.predictions import Predictions, open_predictions
from schemas.row_groups import read_row_groups
from tests.support import world
from tests.support.broken_folders import break_folder
from tests.support.damage import mutations
from trainer.data.batches import Columns, columns_read
from trainer.data.plan import choose_languages

_SECONDS = 60


@pytest.fixture(scope="module")
def originals(run_pipeline, text, tmp_path_factory) -> tuple[Path, Path]:
    """Two runs over one vocabulary, with files of the same names and almost the same sizes."""
    folder = tmp_path_factory.mktemp("originals")
    for language in world.WORDS:
        lines = (text / f"{language}.txt").read_text(encoding="utf-8").splitlines()[:40]
        (folder / f"{language}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = {language: [str(folder / f"{language}.txt")] for language in world.WORDS}
    return tuple(
        run_pipeline(folder / f"predictions{seed}", text=files, seed=seed, shard_bytes=1024, top_k=2) for seed in (5, 6)
    )


def trained_on(folder: Path, scratch: Path) -> list:
    """Returns all that the trainer reads: each row group's values, their language and teacher, and the vocabulary."""
    opened = open_predictions(str(folder))
    values = [
        (file.record.language, file.record.teacher, *(columns.values(name).tobytes() for name in columns_read(2)))
        for file in opened.files
        for columns in (Columns.of(rows, 2) for rows in read_row_groups(file, columns_read(2)))
    ]
    return [values, opened.vocabulary.sha256, choose_languages(opened, None)]


def inspected(folder: Path, scratch: Path) -> list:
    opened = open_predictions(str(folder))
    assert all(line.isprintable() for line in summarize(opened).splitlines())
    figures = {key: (f.rows, f.tokens, f.masked, f.agreed, f.logprob) for key, f in measure(opened).items()}
    return [figures, inspect_row(opened, 3).splitlines()[1:]]


def trimmed(folder: Path, scratch: Path) -> list:
    """Returns the trimmed rows as tokens, independent of their ids."""
    trim(open_predictions(str(folder)), str(scratch))
    opened = open_predictions(str(scratch))
    return [_in_tokens(opened), opened.language_names]


def _in_tokens(opened: Predictions) -> list:
    written = np.array([f"{r} {t}" for r, t in zip(opened.vocabulary.roles, opened.vocabulary.tokens, strict=True)])
    tables = [rows for file in opened.files for rows in read_row_groups(file)]
    tokens = [
        written[table[name].combine_chunks().values].tolist() for table in tables for name in ("labels", "topk_ids")
    ]
    return [tokens, [table.drop_columns(["input_ids", "labels", "topk_ids"]).to_pydict() for table in tables]]


WAYS = {"training": trained_on, "inspect": inspected, "trim": trimmed}


@contextmanager
def time_limit(seconds: int):
    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome_of(way: str, folder: Path, scratch: Path, expected: list) -> str:
    """Returns refused, harmless, silent, hang, or the exception that was not caught."""
    try:
        with time_limit(_SECONDS):
            return "harmless" if WAYS[way](folder, scratch) == expected else "silent"
    except TimeoutError:
        return "hang"
    except UserError as error:
        # Messages are escaped when printed.
        return "refused" if len(printable(str(error))) < 3000 else f"unreadable: {str(error)[:300]}"
    except BaseException as error:  # A panic in Rust is not an Exception.
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"traceback: {type(error).__name__}: {error}"


def test_damage_is_refused_or_harmless(originals, tmp_path, request, capsys):
    """For any damage to a folder, training, inspect and trim reject it or read the same content as before."""
    option = request.config.getoption
    original, other = originals
    expected = {way: read(original, tmp_path / f"expected-{way}") for way, read in WAYS.items()}
    counts, bad = Counter(), []
    count, seed = option("--damaged-folders"), option("--fuzz-seed")
    # Every third damage is resealed, and must be rejected.
    sealed = mutations(original, seed, count)
    for number in range(count):
        folder, scratch = tmp_path / "damaged", tmp_path / "trimmed"
        shutil.copytree(original, folder)
        allowed = {"refused"}
        if number % 3:
            what = break_folder(folder, other, random.Random(f"{seed} {number}"))
            allowed.add("harmless")
        else:
            what, damage = next(sealed)
            damage(folder)
        for way in WAYS:
            outcome = outcome_of(way, folder, scratch, expected[way])
            counts[way, outcome.split(":")[0]] += 1
            if outcome not in allowed:
                bad.append(f"number {number}, {what}, {way}: {outcome[:300]}")
        shutil.rmtree(folder)
        shutil.rmtree(scratch, ignore_errors=True)
    with capsys.disabled():
        print(f"\n{dict(counts)}")
    assert not bad, "\n".join(bad)
    assert all(counts[way, "refused"] > count // 2 for way in WAYS)
