"""Steps of the examples run in order, two at a time, once, and again if their inputs change."""

import json

import pytest

from examples.schedule import Step, fingerprints, run_steps, seconds_of


def appending(name: str, path, *needs: str, text: str = "") -> Step:
    """Returns a step that appends its name to a file."""
    code = f"open({str(path)!r}, 'a').write({name + text + chr(10)!r})"
    return Step(name, ("-c", code), needs)


def test_a_step_runs_once_and_after_those_that_it_needs(tmp_path):
    log = tmp_path / "log"
    steps = [appending("c", log, "a", "b"), appending("b", log, "a"), appending("a", log)]
    for _ in range(2):
        run_steps(steps, tmp_path, processes=2)
    assert log.read_text().split() == ["a", "b", "c"]
    assert all(seconds_of(tmp_path, name) >= 0 for name in "abc")


def test_a_changed_step_runs_again_and_so_do_those_that_need_it(tmp_path):
    log = tmp_path / "log"
    run_steps([appending("a", log), appending("b", log, "a"), appending("c", log)], tmp_path, processes=1)
    run_steps([appending("a", log, text="!"), appending("b", log, "a"), appending("c", log)], tmp_path, processes=1)
    assert sorted(log.read_text().split()) == ["a", "a!", "b", "b", "c"]


def test_a_configuration_is_part_of_a_step(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("x: 1\n")
    steps = [Step("a", ("-m", "trainer", str(config)))]
    before = fingerprints(steps)
    config.write_text("x: 2\n")
    assert fingerprints(steps) != before


def test_a_failure_is_one_line_and_what_was_done_is_kept(tmp_path, capsys):
    log = tmp_path / "log"
    bad = Step("b", ("-c", "import sys; print('some', 'output'); sys.exit('the reason')"), ("a",))
    with pytest.raises(SystemExit, match="b: exit code 1: the reason .full log: .*logs/b.log."):
        run_steps([appending("a", log), bad, appending("c", log, "b")], tmp_path, processes=1)
    assert log.read_text().split() == ["a"]
    run_steps([appending("a", log), appending("c", log, "a")], tmp_path, processes=1)
    assert log.read_text().split() == ["a", "c"]
    assert json.loads((tmp_path / "done" / "c").read_text())["seconds"] >= 0
