"""A student that starts from its teachers' weights, beside copies made one row at a time."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import PreTrainedModel

from schemas.errors import UserError
from schemas.manifest import open_predictions
from tests.support import world
from tests.support.students import SHAPE, make_model, make_vocabulary, tables
from tests.support.training import assert_same_weights, train, write_config
from trainer.config import StudentConfig
from trainer.student.encoder import copy_encoder
from trainer.student.initialization import initialize
from trainer.student.model import build_student, student_config
from trainer.student.token_rows import TokenAverage


@pytest.mark.parametrize("tied", [True, False])
def test_token_rows_are_the_mean_of_their_owners_rows(tied):
    vocabulary = make_vocabulary({"a": [0, 1, 2, 5], "b": [1, 2, 3], "c": [2, 6]}, 8)
    # More rows than tokens, as models have that make the number round.
    teachers = {name: make_model("bert", 9, seed, tie_word_embeddings=tied) for seed, name in enumerate("abc")}
    student = make_model("bert", 8, 9, tie_word_embeddings=tied)
    before = tables(student)
    average = TokenAverage(student, vocabulary)
    for name, teacher in teachers.items():
        average.add(name, teacher)
    (line,) = average.finish()
    assert line == (
        "token rows: 2 from a alone, 1 from b alone, 1 from c alone, 2 averaged over several teachers, 2 random"
    )
    for number, (found, was) in enumerate(zip(tables(student), before, strict=True)):
        for token in range(8):
            rows = [
                tables(teacher)[number][own[token]]
                for teacher, own in zip(teachers.values(), vocabulary.teacher_ids.values(), strict=True)
                if own[token] >= 0
            ]
            expected = sum(row.double() for row in rows) / len(rows) if rows else was[token].double()
            torch.testing.assert_close(found[token].double(), expected, rtol=1e-6, atol=1e-6)
            if len(rows) < 2:
                assert found[token].equal(expected.float())
    assert (student.get_output_embeddings().weight is student.get_input_embeddings().weight) is tied


def test_teachers_of_another_width_give_no_rows():
    vocabulary = make_vocabulary({"a": [0, 1], "wide": [1, 2]}, 3)
    student, wide = make_model("bert", 3, 0), make_model("bert", 3, 2, hidden_size=32)
    average = TokenAverage(student, vocabulary)
    average.add("wide", wide)
    with pytest.raises(UserError, match=r"rows are 16 wide, the teachers' are not \(wide: 32\)"):
        average.finish()
    average.add("a", make_model("bert", 3, 1))
    assert average.finish()[1] == "token rows: none from wide, 32 wide"


def test_a_teacher_with_fewer_rows_than_ids_is_refused():
    average = TokenAverage(make_model("bert", 9, 0), make_vocabulary({"a": list(range(9))}, 9))
    with pytest.raises(UserError, match="its ids up to 8, but its model has only 5 rows"):
        average.add("a", make_model("bert", 5, 0))


def encoder_output(model: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    """Of embeddings that are given, so that no token's row matters."""
    return model.base_model(inputs_embeds=states).last_hidden_state


@pytest.mark.parametrize(("model_type", "shape"), [("bert", {}), ("roberta", {}), ("electra", {"embedding_size": 16})])
@torch.no_grad()
def test_a_students_encoder_computes_what_its_teachers_does(model_type, shape):
    """Of other vocabularies, padding ids (which shift RoBERTa's positions) and numbers of positions."""
    teacher = make_model(model_type, 30, 1, pad_token_id=1, **shape)
    student = make_model(model_type, 50, 2, pad_token_id=4, max_position_embeddings=60, **shape)
    was = tables(student)
    assert copy_encoder(student, teacher, "t") == "encoder of t: layers 0, 1 of its 2"
    states = torch.randn(3, 20, 16)
    torch.testing.assert_close(encoder_output(student, states), encoder_output(teacher, states))
    assert all(map(torch.equal, was, tables(student)))


@torch.no_grad()
def test_a_shallower_student_takes_layers_evenly_spread():
    teacher = make_model("bert", 30, 1, num_hidden_layers=6)
    student = make_model("bert", 30, 2, num_hidden_layers=3)
    assert copy_encoder(student, teacher, "t") == "encoder of t: layers 0, 2, 4 of its 6"
    for layer, source in zip(student.bert.encoder.layer, (0, 2, 4), strict=True):
        theirs = teacher.bert.encoder.layer[source].state_dict()
        assert all(tensor.equal(theirs[name]) for name, tensor in layer.state_dict().items())
    head, theirs = student.cls.predictions.transform.state_dict(), teacher.cls.predictions.transform.state_dict()
    assert all(tensor.equal(theirs[name]) for name, tensor in head.items())


def test_an_untied_student_takes_a_tied_teachers_encoder():
    student = make_model("bert", 30, 2, tie_word_embeddings=False)
    copy_encoder(student, make_model("bert", 40, 1), "t")


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({"hidden_size": 32}, r"is \[\d+, 16\], in teacher 't' it is \[\d+, 32\]; .*student.architecture_from"),
        ({"num_hidden_layers": 1}, "it has 2 layers, the teacher 1"),
        ({"num_attention_heads": 4}, "student.settings.num_attention_heads: 4"),
        ({"hidden_act": "relu"}, "student.settings.hidden_act: relu"),
        ({"model_type": "roberta"}, "student.settings.model_type: roberta"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(theirs, message):
    with pytest.raises(UserError, match=message):
        copy_encoder(make_model("bert", 30, 0), make_model(**{"model_type": "bert"} | theirs, rows=30, seed=1), "t")


@pytest.fixture(scope="module")
def one_teacher(teachers, tmp_path_factory) -> tuple[Path, Path]:
    """Predictions of one teacher only, and held-out ones."""
    from pipeline.__main__ import main

    folder = tmp_path_factory.mktemp("one")
    found = []
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
        found.append(folder / name)
    return tuple(found)


def test_a_student_of_one_teacher_starts_as_that_teacher(one_teacher, teachers, tmp_path):
    """End to end: with a learning rate of nearly nothing its held-out figures are the teacher's own."""
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
    assert "encoder of en-wordpiece: layers 0, 1 of its 2" in done.stdout
    assert f"token rows: {size:,} from en-wordpiece alone, 0 averaged over several teachers, 0 random" in done.stdout
    (row,) = json.loads((tmp_path / "student" / "evaluation.json").read_text())["languages"].values()
    assert row["accuracy"] == row["teacher_accuracy"]
    assert row["nll"] == pytest.approx(row["teacher_nll"], rel=1e-4)


def test_a_resumed_run_needs_no_teacher(predictions, tmp_path):
    """It starts from all three teachers; killed and gone on with, it ends with the weights of a whole run."""
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
    """Twice the same, and the random numbers that come after it are those that would have come without it."""
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


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"encoder_from": "nobody"}, "there is no teacher 'nobody'; the predictions have: en-wordpiece, hi-bpe, ru"),
        ({"embeddings_from_teachers": True}, "there is no folder"),
    ],
)
def test_teachers_that_are_not_there_are_refused_at_once(student, message, predictions, tmp_path):
    shutil.copytree(predictions, tmp_path / "predictions")
    path = tmp_path / "predictions" / "_manifest.json"
    manifest = json.loads(path.read_text())
    for teacher in manifest["teachers"].values():
        teacher["model"] = str(tmp_path / "gone")
    path.write_text(json.dumps(manifest))
    shape = {"settings": {"model_type": "bert", **SHAPE, "max_position_embeddings": 40}}
    done = train(write_config(tmp_path, tmp_path / "predictions", None, student=shape | student))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "student").exists()
