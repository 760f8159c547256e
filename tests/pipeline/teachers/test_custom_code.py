"""Teachers with Python code in their folder: run if the user asks for it, otherwise refused in one line."""

import builtins
import json

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForMaskedLM

from pipeline.config import PipelineConfig, TeacherConfig
from pipeline.job.launcher import run_pipeline
from pipeline.teachers.model import load_model, teacher_fingerprint
from pipeline.teachers.tokenizer import load_tokenizer
from schemas.errors import UserError
from schemas.vocabulary import VOCABULARY_FILE
from tests.support import world
from tests.support.custom_code import write_teacher


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nord") / "teacher"
    write_teacher(folder)
    return folder


@pytest.fixture
def nobody_answers(monkeypatch):
    """Fails the test if transformers asks at the terminal whether to run the code."""

    def answer(question=""):
        pytest.fail(f"asked: {question}")

    monkeypatch.setattr(builtins, "input", answer)


@pytest.mark.parametrize(
    "workers",
    [
        [],
        pytest.param(["--direct_running_mode=multi_processing", "--direct_num_workers=2"], marks=pytest.mark.heavy),
    ],
)
@torch.no_grad()
def test_its_predictions_are_exact(folder, tmp_path, text, caplog, workers):
    """The model has LTG-BERT's peculiarities: no `post_init`, no base model, an inverted mask, state in its modules."""
    settings = {
        "output": str(tmp_path / "out"),
        "teachers": {
            "t": {"model": str(folder), "languages": ["en"], "dtype": "float32", "trust_remote_code": True},
        },
        "text": {"en": [str(text / "en.txt")]},
        "max_length": world.MAX_LENGTH,
        "inference_threads": 3,
        "max_rejected": 1.0,
        "shard_bytes": 4096,
    }
    run_pipeline(PipelineConfig.model_validate(settings), workers)
    if not workers:
        assert "runs its head at every position, which is slower" in caplog.text
    model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True).eval()
    rows = pd.read_parquet(tmp_path / "out" / "en")
    to_teacher = pd.read_parquet(tmp_path / "out" / VOCABULARY_FILE).set_index("id")["t"]
    for row in rows.head(80).itertuples():
        ids = torch.from_numpy(to_teacher[row.input_ids].to_numpy(np.int64))[None]
        logprobs = model(input_ids=ids).logits[0].log_softmax(-1)[row.masked_positions.tolist()]
        labels = torch.from_numpy(to_teacher[row.labels].to_numpy(np.int64))
        np.testing.assert_allclose(row.label_logprobs, logprobs.gather(1, labels[:, None])[:, 0], atol=1e-4)
        np.testing.assert_allclose(row.topk_logprobs.reshape(-1, 8), logprobs.topk(8).values, rtol=2**-11, atol=1e-4)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_no_code_runs_unless_asked_for(folder, tmp_path, nobody_answers, name):
    """This holds for code in the model's configuration, and in the tokenizer's if the model needs no code."""
    write_teacher(tmp_path)
    (tmp_path / "modeling_nord.py").write_text("raise SystemExit('ran')")
    (tmp_path / "configuration_nord.py").write_text("raise SystemExit('ran')")
    if name == "tokenizer_config.json":
        settings = json.loads((tmp_path / name).read_text())
        settings |= {"tokenizer_class": "Nord", "auto_map": {"AutoTokenizer": ["modeling_nord.Nord", None]}}
        (tmp_path / name).write_text(json.dumps(settings))
        (tmp_path / "tokenizer.json").unlink()
    config = TeacherConfig(model=str(tmp_path), languages=["en"])
    load = load_model if name == "config.json" else load_tokenizer
    with pytest.raises(
        UserError, match="set `trust_remote_code: true` for this teacher if you trust that code"
    ) as refusal:
        load("t", config)
    assert "\n" not in str(refusal.value)


def test_its_fingerprint_is_its_codes_too(folder, tmp_path):
    fingerprints = []
    for change in ("", "\n# Another version.\n"):
        write_teacher(tmp_path / "t")
        code = tmp_path / "t" / "modeling_nord.py"
        code.write_text(code.read_text() + change)
        config = TeacherConfig(model=str(tmp_path / "t"), languages=["en"], trust_remote_code=True)
        fingerprints.append(teacher_fingerprint(load_tokenizer("t", config), load_model("t", config)))
    assert fingerprints[0] != fingerprints[1]
