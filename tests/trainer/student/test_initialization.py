"""A student that starts from its teachers' weights, compared with copies made one row at a time."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForMaskedLM

from schemas.predictions import open_predictions
from tests.support import world
from tests.support.students import SHAPE, tables
from tests.support.training import assert_same_weights, train, write_config
from trainer.config import StudentConfig
from trainer.student.initialization import initialize
from trainer.student.model import build_student, student_config


@pytest.fixture(scope="module")
def one_teacher(teachers, tmp_path_factory) -> tuple[Path, Path]:
    """Predictions and held-out predictions of a single teacher."""
    from pipeline.__main__ import main

    folder = tmp_path_factory.mktemp("one")
    folders = []
    for name, lines in [("predictions", world.sentences("en", 300)), ("heldout", world.sentences("en", 400)[300:])]:
        (folder / f"{name}.txt").write_text("\n".join(lines))
        settings = {
            "output": str(folder / name),
            "teachers": {
                "en-wordpiece": {"model": str(teachers / "en-wordpiece"), "languages": ["en"], "dtype": "float32"}
            },
            "text": {"en": [str(folder / f"{name}.txt")]},
            "top_k": 8,
            "max_length": world.MAX_LENGTH,
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
        assert main([str(folder / f"{name}.yaml")]) == 0
        folders.append(folder / name)
    return tuple(folders)


def test_a_student_of_one_teacher_starts_as_that_teacher(one_teacher, teachers, tmp_path):
    """End to end: with a learning rate close to zero, its held-out figures are the teacher's."""
    config = write_config(
        tmp_path,
        *one_teacher,
        max_steps=1,
        optimizer={"learning_rate": 1e-12},
        student={
            "architecture_from": str(teachers / "en-wordpiece"),
            "encoder_from": "en-wordpiece",
            "embeddings_from_teachers": True,
        },
    )
    done = train(config)
    assert done.returncode == 0, done.stderr
    size = len(open_predictions(str(one_teacher[0])).vocabulary)
    assert "encoder of en-wordpiece: took layers 0, 1 of 2" in done.stdout
    assert f"token rows: {size:,} from en-wordpiece alone, 0 averaged over several teachers, 0 random" in done.stdout
    (row,) = json.loads((tmp_path / "student" / "evaluation.json").read_text())["languages"].values()
    assert row["accuracy"] == row["teacher_accuracy"]
    assert row["nll"] == pytest.approx(row["teacher_nll"], rel=1e-4)


def test_a_resumed_run_needs_no_teacher(predictions, tmp_path):
    """The run starts from all three teachers; killed and resumed, it ends with the weights of an uninterrupted run."""
    shape = {"settings": {"model_type": "xlm-roberta", **SHAPE, "max_position_embeddings": 40}}
    student = shape | {"encoder_from": "ru-unigram", "embeddings_from_teachers": True}
    changes = {"max_steps": 10, "save_steps": 5, "student": student}
    whole = write_config(tmp_path / "whole", predictions, None, **changes)
    done = train(whole)
    assert done.returncode == 0, done.stderr
    assert "encoder of ru-unigram" in done.stdout and "averaged over several teachers" in done.stdout
    config = write_config(tmp_path / "resumed", predictions, None, **changes)
    output = tmp_path / "resumed" / "student"
    (tmp_path / "whole" / "student" / "checkpoints" / "00000005").rename(output.parent / "5")
    (output / "checkpoints").mkdir(parents=True)
    (output.parent / "5").rename(output / "checkpoints" / "00000005")
    done = train(config)
    assert done.returncode == 0 and "encoder of" not in done.stdout
    assert_same_weights(tmp_path / "whole" / "student", output)


def test_initialization_draws_nothing_at_random(predictions):
    """Two initializations are the same, and the random numbers after one are those without it."""
    opened = open_predictions(str(predictions))
    settings = {"model_type": "xlm-roberta", **SHAPE, "max_position_embeddings": 40}
    config = StudentConfig(settings=settings, encoder_from="ru-unigram", embeddings_from_teachers=True)
    states = []
    for _ in range(2):
        model = build_student(student_config(config, opened.vocabulary, opened.max_length), 0)
        expected = torch.random.get_rng_state()
        initialize(model, config, opened)
        assert torch.random.get_rng_state().equal(expected)
        states.append(model.state_dict())
    assert all(states[0][name].equal(states[1][name]) for name in states[0])


@pytest.mark.parametrize("alignment", ["orthogonal", "least_squares", "omp"])
@pytest.mark.parametrize("encoder_from", ["ru-unigram", None])
def test_aligned_rows_leave_one_teacher_as_it_is(predictions, alignment, encoder_from):
    """That teacher is the encoder's, or else the first one in the predictions. Two initializations are the same."""
    opened = open_predictions(str(predictions))
    settings = {"model_type": "xlm-roberta", **SHAPE, "max_position_embeddings": 40}
    config = StudentConfig(
        settings=settings, encoder_from=encoder_from, embeddings_from_teachers=True, token_alignment=alignment
    )
    anchor = encoder_from or next(iter(opened.teachers))
    states = []
    for _ in range(2):
        model = build_student(student_config(config, opened.vocabulary, opened.max_length), 0)
        lines = initialize(model, config, opened)
        assert sum(f"mapped into the space of {anchor} ({alignment})" in line for line in lines) == 2
        states.append(model.state_dict())
    assert all(states[0][name].equal(states[1][name]) for name in states[0])
    teacher = AutoModelForMaskedLM.from_pretrained(opened.teachers[anchor].model)
    teacher_ids = torch.from_numpy(opened.vocabulary.teacher_ids[anchor]).long()
    tokens = (teacher_ids >= 0).nonzero()[:, 0]
    for actual, expected in zip(tables(model), tables(teacher), strict=True):
        assert actual[tokens].equal(expected[teacher_ids[tokens]])


@pytest.mark.heavy
def test_an_aligned_student_trains(predictions, tmp_path):
    """It starts from a teacher, whose space is the anchor; the output says so."""
    student = {"start_from": "hi-bpe", "embeddings_from_teachers": True, "token_alignment": "omp"}
    done = train(write_config(tmp_path, predictions, None, max_steps=5, student=student))
    assert done.returncode == 0, done.stderr
    assert (
        "unchanged" in done.stdout
        and "those of ru-unigram mapped into the space of hi-bpe (omp), fitted to" in done.stdout
    )
    card = (tmp_path / "student" / "README.md").read_text()
    assert "token_alignment: omp" in card


CUSTOM = {"model_type": "mystery", "auto_map": {"AutoConfig": "m.Config", "AutoModelForMaskedLM": "m.Model"}}


@pytest.mark.parametrize(
    ("student", "model", "message"),
    [
        (
            {"encoder_from": "nobody"},
            "gone",
            "there is no teacher 'nobody'; the predictions have: en-wordpiece, hi-bpe, ru",
        ),
        ({"embeddings_from_teachers": True}, "/no/such/folder", "which does not exist on this machine"),
        # On the hub, this may be a stranger's model.
        ({"embeddings_from_teachers": True}, "org/gone", "which does not exist on this machine"),
        ({"encoder_from": "en-wordpiece"}, "custom", "needs its own Python code, which the trainer never runs"),
    ],
)
def test_teachers_that_cannot_be_loaded_are_refused_at_once(student, model, message, predictions, tmp_path):
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom" / "config.json").write_text(json.dumps(CUSTOM))
    shutil.copytree(predictions, tmp_path / "predictions")
    path = tmp_path / "predictions" / "_manifest.json"
    manifest = json.loads(path.read_text())
    for teacher in manifest["teachers"].values():
        teacher["model"] = str(tmp_path / model) if model == "custom" else model
    path.write_text(json.dumps(manifest))
    shape = {"settings": {"model_type": "bert", **SHAPE, "max_position_embeddings": 40}}
    done = train(write_config(tmp_path, tmp_path / "predictions", None, student=shape | student))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "student").exists()
