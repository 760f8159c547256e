"""A student's encoder, copied from a teacher."""

import pytest
import torch
from transformers import PreTrainedModel

from schemas.errors import UserError
from tests.support.students import make_model, tables
from trainer.student.encoder import copy_encoder


def encoder_output(model: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    """The encoder's output for given embeddings, so that no token's row matters."""
    return model.base_model(inputs_embeds=states).last_hidden_state


@pytest.mark.parametrize(("model_type", "shape"), [("bert", {}), ("roberta", {}), ("electra", {"embedding_size": 16})])
@torch.no_grad()
def test_a_students_encoder_computes_what_its_teachers_does(model_type, shape):
    """Vocabularies, padding ids (which shift RoBERTa's positions) and numbers of positions differ."""
    teacher = make_model(model_type, 30, 1, pad_token_id=1, **shape)
    student = make_model(model_type, 50, 2, pad_token_id=4, max_position_embeddings=60, **shape)
    was = tables(student)
    assert copy_encoder(student, teacher, "t") == "encoder of t: took layers 0, 1 of 2"
    states = torch.randn(3, 20, 16)
    torch.testing.assert_close(encoder_output(student, states), encoder_output(teacher, states))
    assert all(map(torch.equal, was, tables(student)))


@torch.no_grad()
def test_a_shallower_student_takes_layers_evenly_spread():
    teacher = make_model("bert", 30, 1, num_hidden_layers=6)
    student = make_model("bert", 30, 2, num_hidden_layers=3)
    assert copy_encoder(student, teacher, "t") == "encoder of t: took layers 0, 2, 4 of 6"
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
        (
            {"hidden_size": 32},
            r"has the shape \[\d+, 16\], but in teacher 't' it is \[\d+, 32\]; .*student.architecture_from",
        ),
        ({"num_hidden_layers": 1}, "it has 2 layers, but the teacher has 1"),
        ({"num_attention_heads": 4}, "student.settings.num_attention_heads: 4"),
        ({"hidden_act": "relu"}, "student.settings.hidden_act: relu"),
        ({"model_type": "roberta"}, "student.settings.model_type: roberta"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(theirs, message):
    with pytest.raises(UserError, match=message):
        copy_encoder(make_model("bert", 30, 0), make_model(**{"model_type": "bert"} | theirs, rows=30, seed=1), "t")
