"""What is said of a model that cannot be loaded."""

import pytest

from schemas.errors import ExhaustedError
from schemas.loading import is_path, loading_error

# What transformers says of a name that is no hub id.
STRANGE = OSError("Repo id must use alphanumeric chars, '-', '_' or '.'.")
OFFLINE = OSError("We couldn't connect to the hub.\nCheck your internet connection.")


@pytest.mark.parametrize("model", ["./gone", "../gone", "/data/gone", "~/gone", "out/student/gone", "gs://a/b"])
def test_a_path_without_a_folder_is_named_as_such(model):
    assert is_path(model)
    assert loading_error(STRANGE, model) == "there is no such folder"


@pytest.mark.parametrize("model", ["out/gone", "gone", "bert-base-cased", "org/model.v1"])
def test_a_name_that_may_be_a_folder_or_a_hub_id_gets_both_reasons(model):
    assert not is_path(model)
    assert loading_error(OFFLINE, model) == "there is no such folder, and as a hub id: We couldn't connect to the hub."


def test_the_faults_of_a_model_that_was_found_are_said_alone(tmp_path):
    assert loading_error(OFFLINE, str(tmp_path)) == "We couldn't connect to the hub."
    assert loading_error(ValueError("Unrecognized model."), "org/model") == "Unrecognized model."


def test_full_memory_is_no_fault_of_the_model():
    with pytest.raises(ExhaustedError):
        loading_error(MemoryError("out of memory"), "./gone")
