"""Code that a folder names never runs, only tokenizer files are copied from it, and nothing prompts the user."""

import json
import shutil

import pytest
from transformers import AutoTokenizer, BertConfig

from pipeline.student_tokenizers.store import read_tokenizer, write_tokenizer
from pipeline.trim.folders import trim
from schemas.errors import UserError
from schemas.manifest import TEACHER_TOKENIZERS
from schemas.predictions import open_predictions
from tests.support import world
from trainer.artifacts.export import _copy
from trainer.config import StudentConfig
from trainer.student.model import student_config

_EVIL = "raise SystemExit('foreign code was run')\n"


@pytest.fixture(autouse=True)
def nobody_to_ask(monkeypatch):
    def ask(*_):
        raise AssertionError("somebody is asked")

    monkeypatch.setattr("builtins.input", ask)


@pytest.fixture
def tokenizer(predictions, tmp_path):
    """A deployed tokenizer's folder, with foreign files in it."""
    folder = shutil.copytree(predictions / TEACHER_TOKENIZERS / "en-wordpiece", tmp_path / "tokenizer")
    (folder / "evil.py").write_text(_EVIL)
    (folder / "authorized_keys").write_text("ssh-rsa evil")
    (folder / "config.json").write_text('{"auto_map": {"AutoConfig": "evil.Config"}}')
    return folder


def edit(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_tokenizer_with_code_of_its_own(tokenizer, tmp_path):
    assert read_tokenizer(str(tokenizer), 10**6).mask_token == "[MASK]"
    edit(tokenizer / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Slow", "evil.Fast"]})
    for look in (lambda: read_tokenizer(str(tokenizer), 10**6), lambda: _copy(str(tokenizer), tmp_path / "out", 9)):
        with pytest.raises(UserError, match="tokenizer_config.json: refers to Python code .*never run"):
            look()


def test_only_tokenizer_files_are_copied(tokenizer, tmp_path):
    _copy(str(tokenizer), tmp_path / "out", 9)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"tokenizer.json", "tokenizer_config.json"}
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["model_max_length"] == 9
    secret = tmp_path / "secret"
    (tokenizer / "tokenizer.json").rename(secret)
    (tokenizer / "tokenizer.json").symlink_to(secret)
    with pytest.raises(UserError, match="tokenizer.json: is a link to a file elsewhere"):
        _copy(str(tokenizer), tmp_path / "other", 9)
    # A link to a folder is fine.
    (tokenizer / "tokenizer.json").unlink()
    secret.rename(tokenizer / "tokenizer.json")
    (tmp_path / "link").symlink_to(tokenizer)
    _copy(str(tmp_path / "link"), tmp_path / "other", 9)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 10**5, '{"tokenizer_class": 3, "model_max_length": "x"}'])
def test_a_tokenizer_that_is_none(tokenizer, content):
    (tokenizer / "tokenizer_config.json").write_text(content)
    with pytest.raises(UserError, match="tokenizer"):
        read_tokenizer(str(tokenizer), 10**6)


def test_a_teachers_code_goes_no_further(tokenizer, tmp_path):
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    loaded.init_kwargs["auto_map"] = {"AutoTokenizer": ["evil.Slow", None]}
    write_tokenizer(str(tmp_path / "written"), loaded)
    assert "auto_map" not in (tmp_path / "written" / "tokenizer_config.json").read_text()
    assert read_tokenizer(str(tmp_path / "written"), 10**6).get_vocab() == loaded.get_vocab()


def test_a_shape_with_code_of_its_own(predictions, tmp_path):
    vocabulary = open_predictions(str(predictions)).vocabulary
    shape = tmp_path / "shape"
    BertConfig(hidden_size=32, num_attention_heads=2).save_pretrained(shape)
    (shape / "evil.py").write_text(_EVIL)
    edit(shape / "config.json", auto_map={"AutoConfig": "evil.Config", "AutoModelForMaskedLM": "evil.Model"})
    # A known type does not need this code.
    config = student_config(StudentConfig(architecture_from=str(shape)), vocabulary, world.MAX_LENGTH)
    assert config.hidden_size == 32 and "auto_map" not in config.to_dict()
    edit(shape / "config.json", model_type="evil")
    with pytest.raises(
        UserError, match="student.architecture_from: .*needs its own Python code, which is never run"
    ) as raised:
        student_config(StudentConfig(architecture_from=str(shape)), vocabulary, world.MAX_LENGTH)
    assert "\n" not in str(raised.value)


def test_a_tokenizer_of_more_tokens_than_the_vocabulary_is_refused(predictions, tmp_path):
    """Loading gives a special token that the vocabulary lacks an id beyond the merged ones."""
    copy = shutil.copytree(predictions, tmp_path / "copy")
    path = copy / TEACHER_TOKENIZERS / "en-wordpiece" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"unk_token": "<other>"}))
    with pytest.raises(UserError, match="more tokens than the .* merged ones"):
        trim(open_predictions(str(copy)), str(tmp_path / "trimmed"))
