"""Runs of the trainer that several tests use."""

from pathlib import Path

import pytest

from tests.support.training import EARLY_STOPPING, train, write_config


@pytest.fixture(scope="session")
def stopped(predictions, heldout, tmp_path_factory) -> Path:
    """The configuration of a run that stopped early."""
    config = write_config(tmp_path_factory.mktemp("stopped"), predictions, heldout, **EARLY_STOPPING)
    done = train(config)
    assert done.returncode == 0, done.stderr
    return config
