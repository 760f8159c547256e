"""`python -m schemas inspect`, compared with pandas."""

import re
import shutil

import fsspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.vocabulary.identity import Identity, display, parse
from schemas.commands.inspect import main
from schemas.errors import UserError
from schemas.inspect import inspect_row, measure, summarize, surface
from schemas.predictions import open_predictions
from schemas.vocabulary import CONTINUATION, VOCABULARY_FILE, WORD
from tests.support import world
from tests.support.commands import run, run_python
from tests.support.damage import edit_manifest, read_content, rewrite


@pytest.fixture(scope="module")
def manifest(predictions) -> dict:
    return read_content(predictions)


@pytest.fixture(scope="module")
def frame(predictions, manifest) -> pd.DataFrame:
    """All rows, in the manifest's order."""
    parts = [pd.read_parquet(predictions / file["path"]) for file in manifest["files"]]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def tokens(predictions) -> pd.Series:
    """The tokens as they are shown, with control characters escaped."""
    written = pd.read_parquet(predictions / VOCABULARY_FILE).token
    return written.map(lambda token: token if token.isprintable() else repr(token)[1:-1])


@pytest.fixture
def copied(predictions, tmp_path):
    return shutil.copytree(predictions, tmp_path / "copy")


def table(printed: str) -> pd.DataFrame:
    """The summary's table: cells as strings, indexed by the first column."""
    head, *lines = [re.split(r"\s{2,}", line) for line in printed[printed.index("language  ") :].splitlines()]
    # Reasons are the last column and often empty; the total has no teacher.
    lines = [line if line[0] != "total" else ["total", "", *line[1:]] for line in lines]
    return pd.DataFrame([line + [""] * (len(head) - len(line)) for line in lines], columns=head).set_index("language")


@pytest.mark.heavy
def test_summary(predictions, frame, manifest):
    done = run("schemas", "inspect", predictions)
    assert done.returncode == 0, done.stderr
    vocabulary = pd.read_parquet(predictions / VOCABULARY_FILE)
    assert f"{len(vocabulary):,} merged tokens, top_k 8" in done.stdout
    actual = table(done.stdout)
    groups = [*frame.groupby("language"), ("total", frame)]
    assert set(actual.index) == {*world.WORDS, "total"}
    for language, rows in groups:
        files = [file["path"] for file in manifest["files"] if language in ("total", file["language"])]
        size = sum((predictions / path).stat().st_size for path in files)
        positions = rows.explode(["labels", "label_logprobs"])
        first = np.concatenate([ids[::8] for ids in rows.topk_ids])
        records = [record for record in manifest["languages"] if language in ("total", record["language"])]
        rejected = sum(sum(record["rejected"].values()) for record in records)
        expected = {
            "teacher": "" if language == "total" else rows.teacher.iloc[0],
            "rows": f"{len(rows):,}",
            "records": f"{200 * len(records):,}",
            "used": f"{200 * len(records) - rejected:,}",
            "rejected": f"{rejected:,}",
            "tokens": f"{rows.input_ids.str.len().sum():,}",
            "masked": f"{len(positions):,}",
            "bytes/masked": f"{size / len(positions):.1f}",
            "top-1": f"{(positions.labels.to_numpy() == first).mean():.1%}",
            "log p(label)": f"{positions.label_logprobs.astype(float).mean():.3f}",
        }
        assert actual.loc[language].drop("reasons").to_dict() == expected


def test_one_language(predictions, frame):
    actual = measure(open_predictions(str(predictions)), "ru")
    assert list(actual) == [("ru", "ru-unigram")]
    assert actual["ru", "ru-unigram"].rows == (frame.language == "ru").sum()
    printed = summarize(open_predictions(str(predictions)), "ru")
    assert list(table(printed).index) == ["ru"]


def test_all_models_of_a_teacher(copied):
    further = {"model": "org/second", "revision": None, "weight": 0.3}
    edit_manifest(copied, lambda content: content["teachers"]["ru-unigram"].update(model="a", mixed_with=[further]))
    assert "teacher ru-unigram: a with org/second by 0.3 (" in summarize(open_predictions(str(copied)))


def test_reasons_and_a_language_without_rows(predictions, manifest, copied):
    empty = {"language": "xx", "teacher": "en-wordpiece", "records": 6, "used": 0, "rows": 0}

    def add(content: dict) -> None:
        content["teachers"]["en-wordpiece"]["languages"].append("xx")
        content["languages"].append(empty | {"rejected": {"empty": 5, "not UTF-8": 1}})

    edit_manifest(copied, add)
    opened = open_predictions(str(copied))
    row = table(summarize(opened)).loc["xx"]
    assert (row.rows, row.records, row.used, row.rejected, row.masked) == ("0", "6", "0", "6", "0")
    assert row.reasons == "empty: 5; not UTF-8: 1"
    assert set(row[["bytes/masked", "top-1", "log p(label)"]]) == {"-"}
    with pytest.raises(UserError, match=r"--row 0: .* \(xx\) has 0 rows$"):
        inspect_row(opened, 0, "xx")


def expected_places(row, tokens: pd.Series):
    """Yields the expected lines on each masked position, from pandas."""
    mask = tokens[tokens == "<mask>"].index[0]
    top = zip(row.topk_ids.reshape(-1, 8), row.topk_logprobs.reshape(-1, 8).astype(float), strict=True)
    places = zip(row.masked_positions, row.labels, row.label_logprobs, top, strict=True)
    for number, (position, label, logprob, (ids, logprobs)) in enumerate(places, 1):
        stands = row.input_ids[position]
        fate = "masked" if stands == mask else "kept" if stands == label else f"replaced by {tokens[stands]}"
        guesses = [f"{tokens[i]} {np.exp(p):.2%}" for i, p in zip(ids, logprobs, strict=True)]
        yield f"[{number}] position {position}: gold {tokens[label]}, {fate}"
        yield f"    log-probability {logprob:.3f}, probability {np.exp(logprob):.2%}"
        yield f"    {'  '.join(guesses)}  tail {max(0, 1 - np.exp(logprobs).sum()):.2%}"


@pytest.mark.heavy
def test_every_row(predictions, frame, tokens, text):
    """All that is printed about each row is right, and the unmasked rows of a line give the line."""
    opened = open_predictions(str(predictions))
    lines: dict[tuple[str, int], bytes] = {}
    for number, row in enumerate(frame.itertuples()):
        head, example, size, _, shown, *places = inspect_row(opened, number).splitlines()
        assert head == f"row {number:,} of {len(frame):,} in {predictions}"
        assert example == f"example {row.example_id}, teacher {row.teacher}"
        assert size == f"{len(row.input_ids)} tokens, {len(row.labels)} masked positions"
        assert [line for line in places if line] == list(expected_places(row, tokens))
        gold = ""
        for place, (position, label) in enumerate(zip(row.masked_positions, row.labels, strict=True), 1):
            before, marker, shown = shown.partition(f"[{place}:{tokens[row.input_ids[position]]}]")
            assert marker
            gold += before + tokens[label].replace("▁", "")
        gold += shown
        gold = gold.removeprefix("<s>").removesuffix("</s>").encode()
        key = (row.language, int(row.example_id.split(":")[3]))
        lines[key] = lines.get(key, b"") + gold
    for (language, record), actual in lines.items():
        actual = re.sub(rb"<0x(..)>", lambda match: bytes([int(match[1], 16)]), actual)
        content = (text / f"{language}.txt").read_bytes()
        original = content[record:].partition(b"\n")[0].decode()
        if language == "en":
            # BERT starts a new word after every punctuation mark.
            assert actual.decode().replace(" ", "") == original.replace(" ", "")
        else:
            assert actual.decode() == " " + original


def test_row_of_a_language(predictions, frame, capsys):
    rows = frame[frame.language == "hi"]
    for number in (0, 40, len(rows) - 1):
        assert main([str(predictions), "--row", str(number), "--language", "hi"]) == 0
        printed = capsys.readouterr().out
        assert f"row {number} of {len(rows)} in {predictions} (hi)" in printed
        assert f"example {rows.iloc[number].example_id}," in printed


def test_surface(predictions):
    """The bytes that a token stands for agree with what `parse` reads from the written token."""
    vocabulary = pd.read_parquet(predictions / VOCABULARY_FILE)
    odd = [b"\xe6", b"\xe6\x88", b" two  spaces", "▁".encode(), b"<0xE6>", b"", "😀".encode()]
    written = [
        *zip(vocabulary.role, vocabulary.token, strict=True),
        *((kind, display(Identity(kind, it))) for kind in (WORD, CONTINUATION) for it in odd),
    ]
    for kind, token in written:
        assert surface(kind, token) == b" " * (kind == WORD) + parse(kind, token).surface
    assert any(token.startswith("<0x") for token in vocabulary.token)


def test_odd_tokens(copied, manifest, tokens):
    """Bytes are decoded if they are whole characters, trimmed predictions are marked, control characters escaped."""
    path = copied / manifest["files"][0]["path"]
    rows = pq.read_table(path)
    ids, positions = rows["input_ids"].to_pylist(), rows["masked_positions"].to_pylist()
    guesses, logprobs = rows["topk_ids"].to_pylist(), rows["topk_logprobs"].to_pylist()
    of = {token: index for index, token in enumerate(tokens)}
    whole = [of[f"<0x{byte:02X}>"] for byte in "я".encode()]
    # Only the last token is masked, so the bytes are in running text.
    ids[0] = [of["<s>"], *whole, whole[0], of["\\n"], of["<mask>"]]
    positions[0] = [len(ids[0]) - 1]
    labels, probabilities = rows["labels"].to_pylist(), rows["label_logprobs"].to_pylist()
    labels[0], probabilities[0] = labels[0][:1], probabilities[0][:1]
    guesses[0], logprobs[0] = [-1, *guesses[0][1:8]], [np.float16(-np.inf), *logprobs[0][1:8]]
    edit_manifest(copied, lambda content: content.update(trimmed=True))
    rewrite(
        copied,
        manifest["files"][0]["path"],
        input_ids=ids,
        masked_positions=positions,
        labels=labels,
        label_logprobs=probabilities,
        topk_ids=guesses,
        topk_logprobs=logprobs,
    )
    lines = inspect_row(open_predictions(str(copied)), 0).splitlines()
    assert lines[4].startswith("<s>я<0xD1>\\n") and "[1:<mask>]" in lines[4]
    tail = 1 - np.exp(np.array(logprobs[0], float)).sum()
    assert lines[-1].startswith("    (trimmed away)  ") and lines[-1].endswith(f"  tail {tail:.2%}")
    assert f"{tokens[guesses[0][1]]} {np.exp(float(logprobs[0][1])):.2%}" in lines[-1]


def test_trimmed_predictions_never_agree(copied, manifest):
    edit_manifest(copied, lambda content: content.update(trimmed=True))
    for file in manifest["files"]:
        ids = pq.read_table(copied / file["path"], columns=["topk_ids"])["topk_ids"].to_pylist()
        outside = [[np.float16(-np.inf)] * len(row) for row in ids]
        rewrite(copied, file["path"], topk_ids=[[-1] * len(row) for row in ids], topk_logprobs=outside)
    assert all(figures.agreed == 0 for figures in measure(open_predictions(str(copied))).values())


@pytest.mark.heavy
def test_without_teachers(run_pipeline, tmp_path):
    folder = run_pipeline(tmp_path / "p", top_k=0)
    opened = open_predictions(str(folder))
    actual = table(summarize(opened))
    assert (actual["top-1"] == "-").all() and (actual["log p(label)"] == "-").all()
    assert (actual["bytes/masked"].astype(float) > 1).all()
    frame = pd.read_parquet(folder)
    assert actual.masked["total"] == f"{frame.labels.str.len().sum():,}"
    lines = inspect_row(opened, 3).splitlines()
    assert [line for line in lines[5:] if line and not line.startswith("[")] == []
    assert lines[4].count(":<mask>]") == sum(line.endswith(", masked") for line in lines[5:]) > 0


def test_url(predictions):
    memory = fsspec.filesystem("memory")
    memory.put(str(predictions), "/inspected", recursive=True)
    try:
        remote, local = (open_predictions(folder) for folder in ("memory://inspected", str(predictions)))
        assert measure(remote) == measure(local)
        assert inspect_row(remote, 50).splitlines()[1:] == inspect_row(local, 50).splitlines()[1:]
    finally:
        memory.rm("/inspected", recursive=True)


def test_one_row_needs_one_row_group(predictions, manifest, copied):
    """The rest may be unreadable; the summary then says so."""
    first, *others = manifest["files"]
    footer = pq.read_metadata(copied / first["path"])
    assert footer.num_row_groups > 1
    column = footer.row_group(1).column(0)
    content = bytearray((copied / first["path"]).read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[4:start] = b"\xff" * (start - 4)
    (copied / first["path"]).write_bytes(content)
    for file in others:
        (copied / file["path"]).write_bytes(b"PAR1" * (file["size"] // 4) + b"1" * (file["size"] % 4))
    number = first["row_groups"][0]
    expected = inspect_row(open_predictions(str(predictions)), number)
    opened = open_predictions(str(copied))
    assert inspect_row(opened, number).splitlines()[1:] == expected.splitlines()[1:]
    with pytest.raises(UserError, match=f"{first['path']}: row group 0 cannot be read"):
        summarize(opened)
    with pytest.raises(UserError, match=f"{others[0]['path']}: row group 0 cannot be read"):
        inspect_row(opened, first["rows"])


def test_errors_are_one_line(predictions, frame, tmp_path, capsys):
    total, hindi = len(frame), (frame.language == "hi").sum()

    def fails(*arguments) -> str:
        assert main([*map(str, arguments)]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1
        return printed.err

    for number in (total, -1, 10**12):
        said = fails(predictions, "--row", number)
        assert said == f"error: --row {number}: {predictions} has {total} rows, numbered 0 to {total - 1}\n"
    assert f"(hi) has {hindi} rows, numbered 0 to {hindi - 1}" in fails(predictions, "--language", "hi", "--row", hindi)
    for row in ([], ["--row", 0]):
        assert "--language xx: not in" in fails(predictions, "--language", "xx", *row)
    assert "not found" in fails(tmp_path)
    assert "nosuch" in fails("nosuch://bucket/predictions")


@pytest.mark.heavy
def test_a_file_from_another_run(run_pipeline, predictions, manifest, copied, tmp_path):
    other = run_pipeline(tmp_path / "other", top_k=2)
    path = manifest["files"][0]["path"]
    opened = open_predictions(str(copied))
    shutil.copyfile(other / path, copied / path)
    for look in (lambda: summarize(opened), lambda: inspect_row(opened, 0)):
        with pytest.raises(UserError, match="top_k is 2, but the manifest says 8"):
            look()
    with pytest.raises(UserError, match=f"{path}: has .* bytes, but the manifest says"):
        open_predictions(str(copied))


def test_what_a_folder_says_is_escaped(copied, manifest):
    def change(content: dict) -> None:
        content["teachers"]["en-wordpiece"]["model"] = "\x1b[2Jmodel\nteacher"
        content["languages"][0]["rejected"]["\u202ereason"] = 1
        content["languages"][0]["records"] += 1

    edit_manifest(copied, change)
    rows = pq.ParquetFile(copied / manifest["files"][0]["path"]).read()
    names = ["\x1b]0;name\x07", *rows["example_id"].to_pylist()[1:]]
    rewrite(copied, manifest["files"][0]["path"], example_id=names)
    opened = open_predictions(str(copied))
    printed = summarize(opened) + inspect_row(opened, 0)
    assert not set(printed) & set("\x1b\x07\u202e")
    for escaped in (r"\x1b[2Jmodel\nteacher", r"\u202ereason: 1", r"example \x1b]0;name\x07, teacher"):
        assert escaped in printed


@pytest.mark.heavy
def test_it_needs_little(predictions):
    """It runs even if neither stage is installed."""
    strangers = ["apache_beam", "torch", "transformers", "tokenizers", "pipeline", "trainer"]
    code = f"""
import runpy, sys
for name in {strangers}:
    sys.modules[name] = None
sys.argv[1:] = ["inspect", {str(predictions)!r}, "--row", "0"]
runpy.run_module("schemas", run_name="__main__")
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("row 0 of ")
