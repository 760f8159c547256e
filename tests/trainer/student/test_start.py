"""A student that starts from an earlier one or from a teacher: no old weight changes or is initialized again."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel

from schemas.errors import UserError
from schemas.predictions import open_predictions
from schemas.vocabulary import VOCABULARY_FILE
from tests.support import world
from tests.support.students import tables
from tests.support.training import CONSTANT, assert_same_weights, launch, train_student, write_config
from trainer.artifacts.checkpoint import latest_checkpoint
from trainer.config import StudentConfig
from trainer.export import main as export
from trainer.student.initialization import check_initialization, initialize
from trainer.student.model import build_student, student_config
from trainer.student.start import find_start

# The teachers' width.
SHAPE = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SETTINGS = SHAPE | {"intermediate_size": 32, "max_position_embeddings": world.MAX_LENGTH}
# Runs the pipeline twice and trains a student.
pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def folders(run_pipeline, pipeline_settings, tmp_path_factory) -> list[str]:
    """Predictions of one teacher, and predictions of two more teachers that extend them."""
    root = tmp_path_factory.mktemp("start")
    settings = pipeline_settings(root)

    def predict(name: str, languages: set[str], **changes) -> str:
        teachers = {name: t for name, t in settings["teachers"].items() if languages & set(t["languages"])}
        text = {language: files for language, files in settings["text"].items() if language in languages}
        return str(run_pipeline(root / name, teachers=teachers, text=text, **changes))

    earlier = predict("earlier", {"en"})
    return [earlier, predict("later", {"ru", "hi"}, extends=earlier)]


@pytest.fixture(scope="module")
def student(folders, tmp_path_factory) -> Path:
    """A trained student of the first teacher."""
    return train_student(tmp_path_factory.mktemp("student"), folders[:1], student={"settings": SETTINGS}, max_steps=6)


def begin(folders: list[str], seed: int = 0, **settings) -> tuple[PreTrainedModel, list[str]]:
    """A new student with its initial weights, and the lines that say where they come from."""
    config, opened = StudentConfig(**settings), open_predictions(*folders)
    start = find_start(config, opened)
    check_initialization(config, opened, start)
    model = build_student(student_config(config, opened.vocabulary, opened.max_length, start), seed)
    return model, initialize(model, config, opened, start)


def weights_beside_tokens(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A BERT's weights by name, except those whose shape depends on the vocabulary."""
    of_tokens = ("word_embeddings.weight", "predictions.bias", "decoder.weight", "decoder.bias")
    return {name: tensor for name, tensor in model.state_dict().items() if not name.endswith(of_tokens)}


def test_old_rows_stay_and_new_ones_are_their_teachers_mean(folders, student, teachers):
    earlier = AutoModelForMaskedLM.from_pretrained(student)
    model, lines = begin(folders, start_from=str(student), embeddings_from_teachers=True)
    expected = weights_beside_tokens(earlier)
    actual = weights_beside_tokens(model)
    assert actual.keys() == expected.keys() and all(actual[name].equal(expected[name]) for name in actual)
    table = pd.read_parquet(Path(folders[1]) / VOCABULARY_FILE)
    old = len(pd.read_parquet(Path(folders[0]) / VOCABULARY_FILE))
    theirs = {name: tables(AutoModelForMaskedLM.from_pretrained(teachers / name)) for name in world.TEACHERS}
    several = 0
    for number, (rows, was) in enumerate(zip(tables(model), tables(earlier), strict=True)):
        assert len(rows) == len(table) > old and rows[:old].equal(was)
        for token in table[table.id >= old].itertuples(index=False):
            owners = [name for name in world.TEACHERS if pd.notna(table[name][token.id])]
            mean = sum(theirs[name][number][int(table[name][token.id])].double() for name in owners) / len(owners)
            torch.testing.assert_close(rows[token.id].double(), mean, rtol=1e-6, atol=1e-6)
            several += len(owners) > 1
    assert several and lines[-1].startswith(f"token rows: {old:,} unchanged, ") and lines[-1].endswith(" 0 random")


def test_without_teachers_new_rows_are_those_of_a_new_student(folders, student):
    model, _ = begin(folders, seed=3, start_from=str(student))
    fresh = build_student(model.config, 3)
    old = len(open_predictions(folders[0]).vocabulary)
    for rows, random, was in zip(
        tables(model), tables(fresh), tables(AutoModelForMaskedLM.from_pretrained(student)), strict=True
    ):
        assert rows[:old].equal(was) and rows[old:].equal(random[old:])


@pytest.mark.parametrize("name", ["ru-unigram", "hi-bpe", "en-wordpiece"])
@torch.no_grad()
def test_a_student_that_starts_as_a_teacher_computes_what_it_does(folders, teachers, name):
    """Compared over its tokens, in merged ids, for any padding id, from which RoBERTa's family counts positions."""
    model, lines = begin(folders, start_from=name)
    teacher = AutoModelForMaskedLM.from_pretrained(teachers / name).eval()
    original = AutoTokenizer.from_pretrained(teachers / name)
    merged = AutoTokenizer.from_pretrained(Path(folders[1]) / "_tokenizers" / "teachers" / name)
    to_merged = open_predictions(folders[1]).vocabulary.to_merged(name)
    line = world.sentences(world.TEACHERS[name], 1)[0]
    options = {"return_tensors": "pt", "truncation": True, "max_length": world.MAX_LENGTH}
    ids = original(line, **options)["input_ids"]
    actual = model.eval()(input_ids=merged(line, **options)["input_ids"]).logits
    torch.testing.assert_close(actual[..., to_merged], teacher(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    assert lines[0] == f"encoder of {name}: took layers 0, 1 of 2"


def test_a_run_that_goes_on_needs_its_start_no_more(folders, student, tmp_path):
    """Stopped and resumed without the earlier student, it ends with the weights of an uninterrupted run."""
    start = tmp_path / "start"
    shutil.copytree(student, start)
    settings = {"start_from": str(start), "embeddings_from_teachers": True}
    changes = {"student": settings, "optimizer": CONSTANT, "save_steps": 5}
    whole = train_student(tmp_path / "whole", folders, max_steps=8, **changes)
    output = train_student(tmp_path / "run", folders, max_steps=5, **changes)
    shutil.rmtree(start)
    train_student(tmp_path / "run", folders, max_steps=8, **changes)
    assert_same_weights(whole, output)
    assert export([str(tmp_path / "run" / "trainer.yaml"), "--to", str(tmp_path / "exported")]) == 0
    assert_same_weights(whole, tmp_path / "exported")
    # A chain: another student can start from this one, over the same vocabulary.
    model, lines = begin(folders, start_from=str(output), embeddings_from_teachers=True)
    weights = load_file(output / "model.safetensors")
    assert all(model.state_dict()[name].equal(weights[name]) for name in weights) and "0 random" in lines[-1]
    # With another start it is another run.
    with pytest.raises(UserError, match="student.start_from was .*, now "):
        train_student(
            tmp_path / "run", folders, max_steps=8, **changes | {"student": settings | {"start_from": str(student)}}
        )


def test_an_exported_student_says_which_vocabulary_it_has(folders, student):
    assert (student / VOCABULARY_FILE).read_bytes() == (Path(folders[0]) / VOCABULARY_FILE).read_bytes()


def test_what_the_vocabulary_does_not_extend_is_refused(folders, student, tmp_path):
    larger = train_student(tmp_path / "larger", folders, student={"settings": SETTINGS}, max_steps=5)
    with pytest.raises(
        UserError, match=r"start_from: the vocabulary of .*larger/student .* is not contained in that of .*earlier"
    ):
        begin(folders[:1], start_from=str(larger))
    # The number of tokens is the same, but one token differs.
    table = pq.read_table(student / VOCABULARY_FILE)
    shutil.copytree(student, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoints", "logs"))
    tokens = table["token"].to_pylist()
    tokens[7] += "x"
    table = table.set_column(table.column_names.index("token"), "token", pa.array(tokens))
    pq.write_table(table, tmp_path / "other" / VOCABULARY_FILE)
    with pytest.raises(UserError, match="is not contained in that of .*extends:"):
        begin(folders, start_from=str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (
            {"start_from": "gone/student"},
            "start_from: gone/student: there is no such folder, and no .* of that hub id .*or one of the teachers: en-w",
        ),
        (
            {"start_from": "/gone/student"},
            r"start_from: /gone/student: cannot be read \(there is no such folder\); .*or one of the teachers",
        ),
        (
            {"architecture_from": "./gone"},
            r"^student.architecture_from: ./gone: cannot be loaded: there is no such folder$",
        ),
        ({"architecture_from": "out/gone"}, "architecture_from: out/gone: .* no such folder, and as a hub id: "),
        (
            {"start_from": "TEACHERS/en-wordpiece"},
            "has no _vocabulary.parquet, which says what tokens its rows stand for",
        ),
        (
            {"start_from": "STUDENT", "architecture_from": "x"},
            "`start_from` already gives the student's .*: leave out `architecture_from`",
        ),
        ({"start_from": "STUDENT", "settings": {"hidden_size": 8}}, "leave out `settings`"),
        ({"start_from": "STUDENT", "encoder_from": "hi-bpe"}, "leave out `encoder_from`"),
        ({}, "set `architecture_from` .*, a `model_type` in `settings`, or `start_from`"),
    ],
)
def test_bad_starts_are_refused_at_once(student, message, folders, teachers, request, tmp_path):
    places = {"TEACHERS": str(teachers), "STUDENT": str(request.getfixturevalue("student"))}
    if "start_from" in student:
        for name, place in places.items():
            student = student | {"start_from": student["start_from"].replace(name, place)}
    with pytest.raises(UserError, match=message) as refusal:
        train_student(tmp_path, folders, student=student)
    assert "\n" not in str(refusal.value) and latest_checkpoint(str(tmp_path / "student")) is None


def test_a_student_with_weights_of_another_vocabulary_is_refused(folders, student, tmp_path):
    shutil.copytree(student, tmp_path / "cut", ignore=shutil.ignore_patterns("checkpoints", "logs"))
    model = AutoModelForMaskedLM.from_pretrained(student)
    model.resize_token_embeddings(20)
    model.save_pretrained(tmp_path / "cut")
    with pytest.raises(UserError, match="its embedding has 20 rows, but its vocabulary has "):
        begin(folders, start_from=str(tmp_path / "cut"))


def test_a_teacher_that_gives_new_rows_must_be_there(folders, student, tmp_path):
    later = tmp_path / "later"
    shutil.copytree(folders[1], later)
    manifest = json.loads((later / "_manifest.json").read_text())
    manifest["teachers"]["hi-bpe"]["model"] = str(tmp_path / "gone")
    (later / "_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        UserError, match="teacher 'hi-bpe': the .* manifest says that it is in the folder .*gone, which does not exist"
    ):
        begin([folders[0], str(later)], start_from=str(student), embeddings_from_teachers=True)
    # A student that takes no rows from the teacher does not need it.
    begin([folders[0], str(later)], start_from=str(student))


@pytest.mark.heavy
def test_from_the_command_line(folders, student, tmp_path):
    config = write_config(tmp_path, folders, None, student={"start_from": str(student)}, max_steps=5)
    done = launch(config)
    assert done.returncode == 0 and "unchanged" in done.stdout, done.stderr
    assert f"start_from: {student}" in (tmp_path / "student" / "README.md").read_text()
