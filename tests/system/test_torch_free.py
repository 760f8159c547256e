"""Code that does not need torch does not load it: that costs seconds and hundreds of megabytes."""

import subprocess
import sys

import pytest
import yaml

from tests.support.paths import ROOT


def run(code: str) -> str:
    """Runs `code` in a new Python process and returns its output; fails if it loads torch."""
    code = f"import sys\n{code}\nassert 'torch' not in sys.modules, 'torch was loaded'"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_check_itself():
    with pytest.raises(AssertionError, match="torch was loaded"):
        run("import torch")


@pytest.mark.parametrize("module", ["pipeline.__main__", "trainer.__main__"])
def test_help(module):
    code = f"""
from {module} import main
try:
    main(["--help"])
except SystemExit:
    pass
"""
    assert "configuration fields:" in run(code)


def test_planning(pipeline_settings, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(pipeline_settings(tmp_path / "p")))
    code = f"""
from pipeline.config import PipelineConfig
from pipeline.engine.tasks import in_threads
from pipeline.text.survey import find_text, survey_text
from pipeline.text.units import TeacherText
from schemas.config import load_config
config = load_config({str(tmp_path / "c.yaml")!r}, PipelineConfig)
corpora = survey_text(config, find_text(config), in_threads)
print(sum(len(TeacherText.of(name, "t", corpus, config).units) for name, corpus in corpora.items()))
"""
    assert int(run(code)) > 3


def test_trimming(predictions, tmp_path):
    arguments = [str(predictions), "--output", str(tmp_path / "trimmed")]
    assert "tokens" in run(f"from pipeline.trim.__main__ import main\nassert main({arguments}) == 0")


def test_drift(predictions, text):
    arguments = [str(predictions), "--text", f"en={text / 'en.heldout.txt'}"]
    assert "identical" in run(f"from pipeline.drift import main\nassert main({arguments}) == 0")


@pytest.mark.parametrize("arguments", [[], ["--row", "3"]])
def test_inspecting(predictions, arguments):
    command = [str(predictions), *arguments]
    assert run(f"from schemas.commands.inspect import main\nassert main({command}) == 0")
