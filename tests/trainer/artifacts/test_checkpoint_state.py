"""`state.json` is read back unchanged, and one of another program version is refused."""

import json
import math

import pytest

from schemas.errors import UserError
from trainer.artifacts.checkpoint_state import CheckpointState
from trainer.artifacts.early_stopping import EarlyStopping

STATE = CheckpointState(
    step=7,
    run_spec={"seed": 3, "student": {"settings": {}}},
    configuration={"model_type": "bert"},
    reader={"version": 2, "lanes": {"0": {"pool": 1, "streams": {"hi": [4, 2]}, "batch": 3}}},
    scheduler={"last_epoch": 7},
    skipped_steps=1,
    early_stopping=EarlyStopping("sha", step=6, best_step=3, best_nll=2.5, planned_nll=2.5, since_best=1),
)


def test_it_comes_back_as_it_was():
    assert CheckpointState.from_json(json.loads(json.dumps(STATE.to_json()))) == STATE


def test_an_evaluation_that_is_no_number_comes_back():
    fields = STATE.to_json()
    fields["early_stopping"]["best_nll"] = math.nan
    assert math.isnan(CheckpointState.from_json(json.loads(json.dumps(fields))).early_stopping.best_nll)


@pytest.mark.parametrize("version", [None, 0, 2])
def test_another_version_is_refused(version):
    with pytest.raises(
        UserError, match=rf"has version {version}, but this program reads 1; finish the run with the version"
    ):
        CheckpointState.from_json(STATE.to_json() | {"version": version})


@pytest.mark.parametrize("field", [*STATE.to_json()][1:])
def test_a_field_is_missing(field):
    fields = STATE.to_json()
    del fields[field]
    with pytest.raises(ValueError, match="not those of a checkpoint's state"):
        CheckpointState.from_json(fields)


@pytest.mark.parametrize("content", [[], None, {"version": 1, "early_stopping": 3}])
def test_something_else(content):
    with pytest.raises(ValueError, match="not those of a checkpoint's state"):
        CheckpointState.from_json(content)
