"""What is part of a run's fingerprint, and which run gets a folder."""

import shutil
import threading

import pytest

from pipeline.config import PipelineConfig
from pipeline.job.fingerprint import claim_output, describe_run
from schemas.config import recorded
from schemas.errors import UserError
from tests.support.checked import checked
from tests.support.outputs import files


def test_of_two_runs_that_claim_a_folder_at_once_one_gets_it(pipeline_settings, tmp_path):
    prepared = [checked(PipelineConfig.model_validate(pipeline_settings(tmp_path / "p", seed=seed))) for seed in (1, 2)]
    for attempt in range(10):
        output, refused, barrier = str(tmp_path / str(attempt)), [], threading.Barrier(2)

        def claim(run, output=output, refused=refused, barrier=barrier):
            barrier.wait()
            try:
                claim_output(output, run)
            except UserError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=claim, args=(one.run,)) for one in prepared]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1 and "settings.seed was" in refused[0]


def test_what_changes_no_row_is_no_part_of_a_run(pipeline_settings, tmp_path):
    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))
    prepared = checked(config)
    more = config.model_copy(update={"inference_threads": 7, "teachers_in_memory": 3, "max_rejected": 0.1})
    fingerprints = {name: teacher.fingerprint for name, teacher in prepared.run.teachers.items()}
    described = describe_run(more, prepared.tokenizers, prepared.vocabulary, {}, fingerprints)
    assert described.settings == prepared.run.settings


def test_fields_that_were_added_leave_earlier_runs_as_they_were():
    """A folder started before samples of the tail, shares or mixed models existed can be finished."""
    config = PipelineConfig(output="o", teachers={"t": {"model": "m", "languages": ["de"]}}, text={"de": ["x"]})
    assert recorded(config) == {
        "top_k": 8,
        "seed": 0,
        "max_length": 128,
        "min_length": 4,
        "max_record_bytes": 2**22,
        "packing": False,
        "masking": {
            "mlm_probability": 0.15,
            "mask_replace_prob": 0.8,
            "random_replace_prob": 0.1,
            "copies": 1,
            "whole_words": False,
        },
        "token_identity": "family",
        "audit_rows": 64,
        "batch_tokens": None,
        "shard_bytes": 2**22,
        "row_group_rows": 2048,
    }
    assert recorded(config.model_copy(update={"tail_samples": 4}))["tail_samples"] == 4


def test_another_run_into_the_same_folder_is_refused(predictions, run_pipeline, tmp_path):
    folder = tmp_path / "p"
    shutil.copytree(predictions, folder)
    with pytest.raises(UserError, match="settings.seed was 5, now 6"):
        run_pipeline(folder, seed=6)
    assert files(folder) == files(predictions)


def test_shares_are_part_of_a_run_where_there_are_any(pipeline_settings, tmp_path):
    def settings(*languages) -> dict:
        config = pipeline_settings(tmp_path / "p", top_k=0)
        for name, of_one in zip(("en-wordpiece", "ru-unigram"), languages, strict=True):
            config["teachers"][name]["languages"] = of_one
        return checked(PipelineConfig.model_validate(config)).run.settings

    listed = settings(["en"], ["ru", "en"])
    assert "shares" not in listed and settings({"en": "all"}, {"ru": "all", "en": "all"}) == listed
    divided = settings({"en": 0.7}, {"ru": "all", "en": 0.3})
    assert divided.pop("shares") == {"en": {"en-wordpiece": [0, 0.7], "ru-unigram": [0.7, 1]}}
    assert divided == listed
