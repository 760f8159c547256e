"""Hostile lines through the real pipeline: it stores exactly the tokens of the teacher's tokenizer."""

from collections import Counter
from itertools import accumulate
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from schemas.manifest import DEFAULT_TOKENIZER, TEACHER_TOKENIZERS, read_manifest
from schemas.vocabulary import VOCABULARY_FILE, read_vocabulary
from tests.support import world
from tests.support.families import FAMILIES, make_teacher
from tests.support.hostile import hostile_lines

# In ids, two of which are the special tokens around the text.
_SHORTEST = 4


@pytest.fixture(scope="module")
def lines(request) -> list[bytes]:
    count = request.config.getoption("--hostile-lines")
    # A plain first line, because a hostile one could be read as a byte order mark, which is not part of the text.
    return [b"the river", *hostile_lines(request.config.getoption("--fuzz-seed"), count)]


@pytest.fixture(scope="module")
def folders(teachers, tmp_path_factory) -> dict[str, Path]:
    """Tokenizers of every family: the small world's and rarer ones."""
    rarer = {make.__name__: tmp_path_factory.mktemp(make.__name__) for make in FAMILIES}
    for make in FAMILIES:
        make_teacher(rarer[make.__name__], make.__name__, make())
    return {name: teachers / name for name in world.TEACHERS} | rarer


@pytest.fixture(scope="module")
def output(lines, folders, run_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "hostile.txt").write_bytes(b"\n".join(lines) + b"\n")
    return run_pipeline(
        folder / "predictions",
        teachers={name: {"model": str(model), "languages": [name]} for name, model in folders.items()},
        text={name: [str(folder / "hostile.txt")] for name in folders},
        top_k=0,
        shard_bytes=2**18,
    )


@pytest.mark.parametrize("name", [*world.TEACHERS, *(make.__name__ for make in FAMILIES)])
def test_rows_are_what_the_teachers_tokenizer_says(name, lines, output, folders):
    original = AutoTokenizer.from_pretrained(folders[name])
    vocabulary = read_vocabulary(str(output / VOCABULARY_FILE))
    own_ids, to_merged = vocabulary.teacher_ids[name], vocabulary.to_merged(name)
    remapped = AutoTokenizer.from_pretrained(output / TEACHER_TOKENIZERS / name)
    rows = pd.concat(pd.read_parquet(file) for file in sorted((output / name).glob("*/*.parquet")))
    stored: dict[int, list[int]] = {}
    places = {start: number for number, start in enumerate(accumulate((len(line) + 1 for line in lines), initial=0))}
    for row in rows.itertuples():
        ids = row.input_ids.copy()
        ids[row.masked_positions] = row.labels
        stored.setdefault(places[int(row.example_id.split(":")[3])], []).extend(own_ids[ids[1:-1]].tolist())

    expected_rejects = Counter()
    special = set(original.all_special_ids)
    for number, line in enumerate(lines):
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            expected_rejects["invalid UTF-8"] += 1
            assert number not in stored
            continue
        ids = original(text, add_special_tokens=False)["input_ids"]
        if not text or text.isspace():
            expected_rejects["empty"] += 1
        elif len(ids) < _SHORTEST:
            expected_rejects["too short"] += 1
        elif special.issuperset(ids):
            expected_rejects["nothing to mask"] += 1
        else:
            # A segment of a long line that has only special tokens has nothing to mask and is left out.
            assert _without(stored[number], special) == _without(ids, special), (number, line)
            again = remapped(text, add_special_tokens=False)["input_ids"]
            assert again == to_merged[ids].tolist(), (number, line)
            assert remapped.decode(again) == original.decode(ids), (number, line)
            continue
        assert number not in stored, (number, line)
    (record,) = [record for record in read_manifest(str(output)).languages if record.language == name]
    assert record.rejected == dict(sorted(expected_rejects.items()))
    assert record.records == len(lines) and record.used == len(stored)


def test_the_default_tokenizer_takes_every_line(lines, output):
    tokenizer = AutoTokenizer.from_pretrained(output / DEFAULT_TOKENIZER)
    size = pq.read_metadata(output / VOCABULARY_FILE).num_rows
    texts = [line.decode(errors="replace") for line in lines]
    for ids in tokenizer(texts)["input_ids"]:
        assert len(ids) >= 2 and min(ids) >= 0 and max(ids) < size
        tokenizer.decode(ids)


def _without(ids: list[int], special: set[int]) -> list[int]:
    return [number for number in ids if number not in special]
