"""Stage two as a whole, in real processes: from predictions to a student that plain transformers loads."""

import os
import re
import signal

import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from schemas.predictions import open_predictions
from tests.support import world
from tests.support.commands import SECONDS, wait_until
from tests.support.training import (
    TWO,
    assert_same_weights,
    has_logged,
    launch_two,
    start,
    steps_of,
    train,
    write_config,
)
from trainer.__main__ import main
from trainer.artifacts.checkpoint import latest_checkpoint


def test_plain_transformers_loads_the_student(student, predictions):
    opened = open_predictions(str(predictions))
    (manifest,), vocabulary = opened.manifests, opened.vocabulary
    model = AutoModelForMaskedLM.from_pretrained(student)
    assert model.config.vocab_size == len(vocabulary)
    assert model.config.pad_token_id == vocabulary.id_of("pad")
    tokenizer = AutoTokenizer.from_pretrained(student)
    assert len(tokenizer) == len(vocabulary) and tokenizer.model_max_length == world.MAX_LENGTH
    for language, name in ((language, name) for name, language in world.TEACHERS.items()):
        exact = AutoTokenizer.from_pretrained(student / "tokenizers" / language)
        line = world.sentences(language, 3)[2]
        teacher = AutoTokenizer.from_pretrained(manifest.teachers[name].model)
        assert exact(line)["input_ids"] == vocabulary.to_merged(name)[teacher(line)["input_ids"]].tolist()
    guesses = pipeline("fill-mask", model=str(student))(f"the {tokenizer.mask_token} writes")
    assert len(guesses) == 5


def test_a_killed_run_goes_on_to_the_same_weights(student, predictions, heldout, tmp_path):
    config = write_config(tmp_path, predictions, heldout)
    process = start(config)
    wait_until(lambda: latest_checkpoint(str(tmp_path / "student")) is not None, process)
    process.kill()
    process.communicate(timeout=SECONDS)
    assert not (tmp_path / "student" / "model.safetensors").exists()
    assert train(config).returncode == 0
    assert_same_weights(student, tmp_path / "student")
    assert steps_of(tmp_path / "student") == steps_of(student)
    again = train(config)
    assert again.returncode == 0 and "nothing to do" in again.stdout


def test_sigterm_saves_and_says_so(student, predictions, heldout, tmp_path):
    """It saves at a step that is not a multiple of `save_steps`, and exits with code 75."""
    config = write_config(tmp_path, predictions, heldout, save_steps=1000, logging_steps=1)
    process = start(config)
    wait_until(lambda: has_logged(tmp_path / "student"), process)
    process.terminate()
    errors = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 75 and "run the same command again to go on" in errors, errors
    assert 1 <= latest_checkpoint(str(tmp_path / "student")) < 40
    assert train(config).returncode == 0
    assert_same_weights(student, tmp_path / "student")


def test_two_processes_save_when_one_is_asked_to_end(predictions, tmp_path):
    """torchrun passes SIGTERM on; then one process continues alone, with the result of a run in one process."""
    changes = {"max_steps": 30, "save_steps": 1000, "logging_steps": 1}
    config = write_config(tmp_path / "two", predictions, None, **changes)
    process = start(config, *TWO)
    wait_until(lambda: has_logged(tmp_path / "two" / "student"), process)
    process.terminate()
    process.communicate(timeout=SECONDS)
    assert 1 <= latest_checkpoint(str(tmp_path / "two" / "student")) < 30
    assert train(config).returncode == 0
    one = write_config(tmp_path / "one", predictions, None, micro_batches=2, **changes)
    assert train(one).returncode == 0
    # A sum of two terms is the same in any order.
    assert_same_weights(tmp_path / "one" / "student", tmp_path / "two" / "student")


def test_torchrun_starts_again_after_a_process_was_killed(predictions, tmp_path, capsys):
    """The new processes take over the folder of the killed one at once; no other run gets it meanwhile."""
    config = write_config(tmp_path, predictions, None, max_steps=60, save_steps=10, logging_steps=1)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1", "-m", "trainer"]
    process = start(config, *launcher)
    wait_until(lambda: has_logged(tmp_path / "student"), process)
    assert main([str(config)]) == 2
    owner = re.search("is being written by process ([0-9]+) on ", capsys.readouterr().err)
    os.kill(int(owner[1]), signal.SIGKILL)
    errors = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 0 and "being written" not in errors, errors
    assert steps_of(tmp_path / "student") == list(range(1, 61))


def test_processes_share_a_step_evenly(predictions, tmp_path):
    config = write_config(tmp_path, predictions, None, micro_batches=3)
    done = launch_two(config)
    assert done.returncode and "micro_batches (3) cannot be divided evenly among 2 processes" in done.stderr


def test_two_processes_give_the_gradients_of_one(predictions, tmp_path):
    """Two processes with one micro-batch each and one process with two get the same batches and dropout, so bit-equal weights."""
    changes = {"max_steps": 6, "save_steps": 6}
    one = write_config(tmp_path / "one", predictions, None, micro_batches=2, **changes)
    two = write_config(tmp_path / "two", predictions, None, micro_batches=2, **changes)
    assert train(one).returncode == 0
    done = launch_two(two)
    assert done.returncode == 0, done.stderr
    ours = load_file(tmp_path / "one" / "student" / "model.safetensors")
    theirs = load_file(tmp_path / "two" / "student" / "model.safetensors")
    # A sum of two terms, scaled by powers of two, is the same in any order.
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)
