"""What is due after a step, compared with the calendar of a run."""

from itertools import product

import pytest

from trainer.config import TrainerConfig
from trainer.loop.due import Due, due_after

SETTINGS = {"output": "o", "predictions": "p", "student": {"architecture_from": "m"}}


def config(**changes) -> TrainerConfig:
    return TrainerConfig(**SETTINGS | {"max_steps": 10, "logging_steps": 3, "save_steps": 4} | changes)


def test_a_run_by_its_calendar():
    due = {step: due_after(step, config(heldout="h", eval_steps=5)) for step in range(1, 11)}
    assert [step for step in due if due[step].log] == [3, 6, 9, 10]
    assert [step for step in due if due[step].evaluate] == [5, 10]
    assert [step for step in due if due[step].save] == [4, 8, 10]


def test_the_last_evaluation_may_not_be_a_planned_one():
    due = {step: due_after(step, config(heldout="h", eval_steps=4)) for step in range(1, 11)}
    assert [step for step in due if due[step].evaluate] == [4, 8, 10]
    assert [step for step in due if due[step].is_planned] == [4, 8]
    # Without `eval_steps` only the last step is evaluated.
    only_last = {step: due_after(step, config(heldout="h")) for step in range(1, 11)}
    assert [step for step in only_last if only_last[step].evaluate] == [10] and not only_last[10].is_planned


def test_nothing_to_evaluate_on():
    assert not any(due_after(step, config()).evaluate for step in range(1, 11))


def test_a_run_that_is_asked_to_end_saves_and_does_not_evaluate():
    for step in range(1, 11):
        usual = due_after(step, config(heldout="h", eval_steps=5))
        asked = due_after(step, config(heldout="h", eval_steps=5), asked_to_end=True)
        assert asked == Due(log=usual.log, evaluate=False, is_planned=usual.is_planned, save=True)


@pytest.mark.parametrize(("logging_steps", "save_steps"), product([1, 50], repeat=2))
def test_the_last_step_is_logged_evaluated_and_saved(logging_steps, save_steps):
    due = due_after(10, config(heldout="h", logging_steps=logging_steps, save_steps=save_steps))
    assert due.log and due.evaluate and due.save
