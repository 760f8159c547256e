"""Memory: ten times the text needs no more memory."""

import os
import subprocess
import sys

import pytest
import yaml

from tests.support import world


def peak(command: list[str]) -> int:
    """Returns the peak resident bytes of a command."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss * 1024


@pytest.mark.slow
def test_ten_times_the_text_takes_no_more_memory(pipeline_settings, teachers, tmp_path):
    peaks = []
    # Starts at 4 MiB, where the sample for fitting the tokenizers is full.
    for times in (1, 10):
        lines = world.sentences("en", 300) * 120 * times
        (tmp_path / f"{times}.txt").write_text("\n".join(lines))
        settings = pipeline_settings(tmp_path / f"p{times}", shard_bytes=2**18, batch_tokens=None) | {
            "teachers": {"en-wordpiece": {"model": str(teachers / "en-wordpiece"), "languages": ["en"]}},
            "text": {"en": [str(tmp_path / f"{times}.txt")]},
        }
        (tmp_path / f"{times}.yaml").write_text(yaml.safe_dump(settings))
        peaks.append(peak([sys.executable, "-m", "pipeline", str(tmp_path / f"{times}.yaml")]))
    assert (tmp_path / "1.txt").stat().st_size > 2**22
    assert peaks[1] < 1.1 * peaks[0], peaks
