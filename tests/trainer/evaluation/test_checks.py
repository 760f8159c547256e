"""Architectures whose output some tasks cannot use are refused before any model runs."""

import pytest
from transformers import AutoTokenizer

from schemas.errors import UserError
from tests.support.architectures import tiny
from tests.support.labelled import evaluation, load_model
from trainer.evaluation.checks import check_model
from trainer.evaluation.tasks.classification import Classification
from trainer.evaluation.tasks.retrieval import Retrieval


@pytest.fixture
def check(tmp_path, teachers):
    """A function that checks a model of some type for a task, and then runs the task if asked to."""

    def run(model_type: str, task_class, runs: bool = False, **settings) -> None:
        tokenizer = AutoTokenizer.from_pretrained(teachers / "en-wordpiece")
        tokenizer.save_pretrained(tmp_path)
        special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.sep_token_id}
        tiny(model_type, vocab_size=len(tokenizer), **special | settings).save_pretrained(tmp_path)
        (tmp_path / "a.txt").write_text("the sea\nthe river sings\na\nb c d\nthe house\n")
        (tmp_path / "a.tsv").write_text("the sea sings\tyes\nthe river\tno\n" * 4)
        sections = {
            "retrieval": {"p": {"languages": ["en", "en"], "files": [str(tmp_path / "a.txt")] * 2}},
            "classification": {"en": {use: str(tmp_path / "a.tsv") for use in ("train", "test")}},
        }
        config = evaluation(tmp_path, models={"m": {"model": str(tmp_path)}}, fine_tuning={"epochs": 1}, **sections)
        task = task_class.from_config(config)
        jobs = task.jobs("m", config.models["m"])
        check_model(load_model(config, "m"), [(job, task) for job in jobs])
        if runs:
            task.run(jobs[0], load_model(config, "m"))

    return run


@pytest.mark.parametrize("model_type", ["bart", "mbart", "funnel", "perceiver"])
def test_hidden_states_that_are_not_of_tokens_are_refused(check, model_type):
    with pytest.raises(
        UserError, match=rf"models\.m: .* type {model_type} does not give one hidden state for each token"
    ):
        check(model_type, Retrieval)


@pytest.mark.parametrize("model_type", ["bert", "big_bird", "deberta-v2", "luke", "modernbert", "reformer", "xlm"])
def test_hidden_states_of_tokens_are_read(check, model_type):
    check(model_type, Retrieval, runs=True)


@pytest.mark.heavy
def test_an_encoder_decoder_classifies_at_its_end_token(check):
    check("bart", Classification, runs=True)
    with pytest.raises(
        UserError, match=r"models\.m: classification reads the token 7 \(eos_token_id of its config\.json\)"
    ):
        check("bart", Classification, eos_token_id=7)
