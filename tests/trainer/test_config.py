"""Configurations that the trainer refuses before any work."""

import pytest

from schemas.config import recorded
from trainer.config import TrainerConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictions": "no/such"}, "no/such/_manifest.json: not found"),
        ({"sampling": {"languages": ["xx"]}}, "unknown language 'xx'"),
        ({"student": {"settings": {"model_type": "no-such"}}}, "no-such"),
        (
            {"student": {"settings": {"model_type": "bert", "width": 3}}},
            "student.settings.width: a bert configuration has no such field",
        ),
        ({"student": {"settings": {"model_type": "bert", "max_position_embeddings": 8}}}, "set it to at least"),
        (
            {"student": {"settings": {"model_type": "bert"}, "token_alignment": "omp"}},
            "student: token_alignment maps the teachers' token rows: set embeddings_from_teachers",
        ),
        ({"student": {}}, "set `architecture_from`"),
        (
            {"student": {"settings": {"model_type": "bert"}, "revision": "x"}},
            "`revision` is that of `architecture_from`",
        ),
        (
            {"student": {"start_from": "hi-bpe", "revision": "x"}},
            "student.revision: hi-bpe is a teacher, whose revision",
        ),
        ({"eval_steps": 5}, "eval_steps is the time between evaluations on held-out data: set heldout"),
        ({"sampling": {"languages": []}}, "sampling.languages: List should have at least 1 item"),
        ({"optimizer": {"betas": [False, 0.98]}}, "optimizer.betas: expected a number, not false"),
    ],
)
def test_bad_trainers_stop_at_once(changes, message, predictions, tmp_path):
    from tests.support.training import train, write_config

    folder = changes.get("predictions", predictions)
    others = {key: value for key, value in changes.items() if key != "predictions"}
    done = train(write_config(tmp_path, folder, None, **others))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "student").exists()


def test_fields_that_were_added_leave_earlier_records_as_they_were():
    """A run started before alignments, stages or samples of the tail existed can be continued and exported."""
    shape = {"architecture_from": "m"}
    config = TrainerConfig(output="o", predictions="p", max_steps=9, student=shape)
    assert recorded(config) == {
        "student": {
            "architecture_from": "m",
            "start_from": None,
            "revision": None,
            "encoder_from": None,
            "embeddings_from_teachers": False,
            "settings": {},
        },
        "sampling": {"alpha": 0.7, "languages": None, "shuffle_rows": 8192},
        "distillation": {
            "kd_weight": 0.5,
            "final_kd_weight": None,
            "schedule": "linear",
            "languages": {},
            "confidence_power": 0,
            "tail": "bucket",
            "temperature": 1,
            "normalize": "merged",
        },
        "optimizer": {
            "learning_rate": 5e-4,
            "warmup_steps": 0,
            "lr_scheduler_type": "linear",
            "weight_decay": 0.01,
            "betas": [0.9, 0.98],
            "max_grad_norm": 1.0,
        },
        "max_steps": 9,
        "batch_tokens": 8192,
        "micro_batches": None,
        "seed": 0,
        "precision": "auto",
        "torch_compile": False,
    }
    aligned = shape | {"embeddings_from_teachers": True, "token_alignment": "omp"}
    config = TrainerConfig(output="o", predictions="p", max_steps=9, student=aligned)
    assert recorded(config)["student"]["token_alignment"] == "omp"
