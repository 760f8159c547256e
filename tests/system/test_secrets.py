"""A run never writes or prints the secrets in its URLs."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
import yaml

import pipeline.__main__
import pipeline.trim.__main__
import trainer.__main__
import trainer.export
from schemas.commands import inspect
from schemas.predictions import open_predictions

SECRET = "tops3cretvalue"


def files_below(folder: Path, remote: str) -> dict[str, bytes]:
    """Returns the content of all written files, local and in memory, except the configurations."""
    memory = fsspec.filesystem("memory")
    local = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".yaml"}
    return local | {path: memory.cat_file(path) for path in memory.find(remote)}


def test_no_secret_of_a_url_is_written_or_shown(pipeline_settings, teachers, text, tmp_path, monkeypatch, capsys):
    memory = fsspec.filesystem("memory")
    query = f"X-Goog-Signature={SECRET}&X-Goog-Date=2026"
    lines = (text / "en.txt").read_bytes() + b"x\n\xff\xfe\n"
    memory.pipe_file(f"/secrets/en.txt?{query}", lines)
    predictions = f"memory://key:{SECRET}@made"
    settings = pipeline_settings(predictions, audit_rows=2)
    settings["teachers"] = {"t": {"model": str(teachers / "en-wordpiece"), "languages": ["en"], "dtype": "float32"}}
    settings["text"] = {"en": [f"memory://secrets/en.txt?{query}"]}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(settings))
    assert pipeline.__main__.main([str(tmp_path / "p.yaml"), "--dry-run"]) == 0
    assert pipeline.__main__.main([str(tmp_path / "p.yaml")]) == 0
    # Rerun to resume, and with another seed, which is rejected.
    assert pipeline.__main__.main([str(tmp_path / "p.yaml")]) == 0
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(settings | {"seed": 6}))
    assert pipeline.__main__.main([str(tmp_path / "other.yaml")]) == 2
    assert inspect.main([predictions, "--row", "0"]) == 0
    assert inspect.main([predictions]) == 0
    trimmed = str(tmp_path / "trimmed")
    assert pipeline.trim.__main__.main([predictions, "--output", trimmed, "--json", str(tmp_path / "report.json")]) == 0
    logged = []

    def start(**settings):
        logged.append(settings)
        return SimpleNamespace(log=lambda figures, step: logged.append(figures), finish=lambda: None)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=start, Error=RuntimeError))
    student = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    training = {
        "output": str(tmp_path / "student"),
        "predictions": predictions,
        "heldout": predictions,
        "student": {"settings": student | {"intermediate_size": 32, "max_position_embeddings": 64}},
        "max_steps": 2,
        "batch_tokens": 512,
        "precision": "float32",
        "wandb_project": "p",
    }
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(training))
    assert trainer.__main__.main([str(tmp_path / "t.yaml")]) == 0
    assert trainer.export.main([str(tmp_path / "t.yaml"), "--to", str(tmp_path / "exported")]) == 0
    assert trainer.__main__.main([str(tmp_path / "t.yaml")]) == 0

    written = files_below(tmp_path, f"/key:{SECRET}@made")
    for name in ("_manifest.json", "_run.json", "state.json", "run.json", "README.md", ".jsonl", ".parquet"):
        assert any(path.endswith(name) for path in written), name
    assert not [path for path, content in written.items() if SECRET.encode() in content]
    assert logged and SECRET not in json.dumps(logged, default=str)
    shown = "".join(capsys.readouterr())
    assert shown and SECRET not in shown
    rows = open_predictions(trimmed).files
    assert rows and not any(SECRET in file.record.path for file in rows)


@pytest.mark.parametrize("fault", ["missing", "no UTF-8"])
def test_no_secret_is_in_a_message(pipeline_settings, tmp_path, capsys, fault):
    url = f"memory://secrets/{fault.replace(' ', '')}.txt?sig={SECRET}"
    if fault != "missing":
        fsspec.filesystem("memory").pipe_file(f"/secrets/noUTF-8.txt?sig={SECRET}", "text".encode("utf-16"))
    settings = pipeline_settings(tmp_path / "p")
    settings["text"]["en"] = [url]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(settings))
    assert pipeline.__main__.main([str(tmp_path / "p.yaml")]) == 2
    shown = capsys.readouterr().err
    assert "sig=***" in shown and SECRET not in shown
