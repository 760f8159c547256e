"""Configurations of the trainer that stop it before any work."""

import pytest


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
        ({"student": {"settings": {"model_type": "bert", "max_position_embeddings": 8}}}, "give it at least"),
        (
            {"student": {"settings": {"model_type": "bert"}, "token_alignment": "omp"}},
            "student: token_alignment maps token rows of teachers: set embeddings_from_teachers",
        ),
        ({"student": {}}, "give `architecture_from`"),
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
