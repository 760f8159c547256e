"""The default tokenizer and the report on it, compared with separate counts."""

import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from pipeline.drift import report, union_by_string
from pipeline.engine.tasks import MOST_TASKS, in_threads
from pipeline.student_tokenizers.store import read_tokenizers
from schemas.manifest import DEFAULT_TOKENIZER, TEACHER_TOKENIZERS
from schemas.predictions import open_predictions
from schemas.vocabulary import VOCABULARY_FILE, read_vocabulary
from tests.support import world
from tests.support.commands import call, run


@pytest.mark.heavy
def test_report(predictions, text, tmp_path):
    files = [f"{language}={text / f'{language}.heldout.txt'}" for language in world.WORDS]
    arguments = [part for file in files for part in ("--text", file)]
    done = run("pipeline.drift", predictions, *arguments, "--json", tmp_path / "drift.json")
    assert done.returncode == 0, done.stderr
    actual = json.loads((tmp_path / "drift.json").read_text())
    vocabulary = read_vocabulary(str(predictions / VOCABULARY_FILE))
    default = AutoTokenizer.from_pretrained(predictions / DEFAULT_TOKENIZER)
    for name, language in world.TEACHERS.items():
        row = actual["languages"][language]
        exact = AutoTokenizer.from_pretrained(predictions / TEACHER_TOKENIZERS / name)
        lines = (text / f"{language}.heldout.txt").read_text().splitlines()
        words = sum(len(line.split()) for line in lines)
        assert (row["teacher"], row["words"]) == (name, words)
        for kind, tokenizer in (("teacher", exact), ("default", default)):
            ids = [i for line in lines for i in tokenizer(line, add_special_tokens=False)["input_ids"]]
            assert row[f"{kind}_fertility"] == pytest.approx(len(ids) / words)
            assert row[f"{kind}_unknown"] == pytest.approx(ids.count(vocabulary.id_of("unknown")) / len(ids))
        # In this world a word is segmented in the same way in any context.
        alike = [exact(w, add_special_tokens=False)["input_ids"] == default(w, add_special_tokens=False)["input_ids"]
                 for line in lines for w in line.split()]  # fmt: skip
        assert row["identical"] == pytest.approx(np.mean(alike))
        assert f"{row['identical']:.1%}" in done.stdout
        for other in world.TEACHERS:
            shared = ((vocabulary.teacher_ids[name] >= 0) & (vocabulary.teacher_ids[other] >= 0)).sum()
            assert actual["overlap"][name][other] == shared
    assert actual["tokens"]["merged"] == len(vocabulary) < actual["tokens"]["by_string"] < actual["tokens"]["separate"]


@pytest.mark.heavy
def test_the_workers_of_a_runner_say_the_same(predictions, text, tmp_path):
    lines = (text / "en.heldout.txt").read_text().splitlines(keepends=True)
    # Large enough to be read in several parts.
    (tmp_path / "en.txt").write_text("".join(lines * (2**21 // sum(map(len, lines)))))
    arguments = (predictions, "--text", f"en={tmp_path / 'en.txt'}")
    options = ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK")
    before = sorted(predictions.rglob("*"))
    here, there = run("pipeline.drift", *arguments), run("pipeline.drift", *arguments, *options)
    assert there.returncode == 0, there.stderr
    assert here.stdout == there.stdout
    assert sorted(path for path in predictions.rglob("*") if path.is_file()) == [p for p in before if p.is_file()]


def test_many_small_files_are_few_tasks_and_say_the_same(predictions, text, tmp_path):
    lengths = []

    def run_tasks(tasks):
        lengths.append(len(tasks))
        return in_threads(tasks)

    patterns = {}
    for language in ("en", "ru"):
        lines = (text / f"{language}.txt").read_text().splitlines(keepends=True)
        (tmp_path / language).mkdir()
        for number, line in enumerate(lines):
            (tmp_path / language / f"{number:03d}.txt").write_text(line)
        patterns[language] = [str(tmp_path / language)]
    folder = open_predictions(str(predictions))
    small = report(folder, patterns, run_tasks)
    whole = report(folder, {language: [str(text / f"{language}.txt")] for language in patterns}, run_tasks)
    assert small == whole and 128 < lengths[0] <= MOST_TASKS and lengths[1] == 2


@pytest.mark.heavy
def test_the_union_by_string_is_that_of_identity_string(predictions, run_pipeline, tmp_path):
    by_string = read_vocabulary(str(run_pipeline(tmp_path / "s", token_identity="string", top_k=0) / VOCABULARY_FILE))
    vocabulary = read_vocabulary(str(predictions / VOCABULARY_FILE))
    assert union_by_string(vocabulary, read_tokenizers(str(predictions), vocabulary)) == len(by_string)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such", "--text", "en=x"], "no/such/_manifest.json: not found"),
        (["{predictions}", "--text", "xx=x"], "--text xx=x: expected LANGUAGE=FILES with one of en, hi, ru"),
        (["{predictions}", "--text", "en"], "expected LANGUAGE=FILES"),
        (["{predictions}", "--text", "en=no/such.txt"], "no file matches 'no/such.txt'"),
    ],
)
def test_bad_arguments(predictions, arguments, message):
    done = call("pipeline.drift", *(argument.format(predictions=predictions) for argument in arguments))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
