"""Models from folders and from the hub, for which the tests write a cache."""

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from schemas.errors import UserError
from tests.support import world
from tests.support.labelled import make_student
from trainer.evaluation.config import ModelConfig
from trainer.evaluation.models import Model

COMMITS = ["1" * 40, "2" * 40]


def model(path, **settings) -> Model:
    return Model("m", ModelConfig(model=str(path), **settings), torch.device("cpu"))


@pytest.fixture
def copy(teachers, tmp_path) -> Path:
    return Path(shutil.copytree(teachers / "en-wordpiece", tmp_path / "copy"))


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """A function that makes a folder the newest commit of a repository of the hub's cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(repository: str, folder: Path, commit: str) -> None:
        root = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        shutil.copytree(folder, root / "snapshots" / commit)
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / "main").write_text(commit)

    return put


def test_a_new_commit_of_a_hub_model_is_another_model(teachers, publish):
    publish("some/teacher", teachers / "en-wordpiece", COMMITS[0])
    first = model("some/teacher").fingerprint
    assert model("some/teacher").fingerprint == first
    publish("some/teacher", teachers / "ru-unigram", COMMITS[1])
    assert model("some/teacher").fingerprint != first
    # A branch and the commit that it points to are the same model.
    assert model("some/teacher", revision=COMMITS[0]).fingerprint == first


def test_a_student_on_the_hub_reads_each_language_with_its_tokenizer(tmp_path, teachers, publish):
    folder = make_student(tmp_path / "student", teachers)
    publish("some/student", folder, COMMITS[0])
    published = model("some/student")
    for language in ("en", "ru"):
        expected = AutoTokenizer.from_pretrained(folder, subfolder=f"tokenizers/{language}")
        assert published.tokenizer(language).get_vocab() == expected.get_vocab()
    default = AutoTokenizer.from_pretrained(folder).get_vocab()
    assert published.tokenizer(None).get_vocab() == default != published.tokenizer("en").get_vocab()
    assert published.tokenizer("xx").get_vocab() == default
    assert published.tokenizer_languages == model(folder).tokenizer_languages == ["en", "hi", "ru"]
    assert published.read_with_default(["xx", "en"]) == ["xx"]
    assert model("some/student", tokenizer="default").read_with_default(["xx", "en"]) == []
    assert model(teachers / "en-wordpiece").read_with_default(["xx", "en"]) == []
    assert model("some/student", tokenizer="default").tokenizer("en").get_vocab() == default
    assert model("some/student", tokenizer="default").fingerprint != published.fingerprint


def test_a_student_of_one_teacher_has_only_one_tokenizer(copy):
    folder = copy / "tokenizers" / "text"
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(copy / name, folder)
    assert model(copy).tokenizer_languages == [] == model(copy).read_with_default(["en"])
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " ")
    assert model(copy).tokenizer_languages == ["text"]


def test_changed_weights_are_another_model(copy):
    before = model(copy).fingerprint
    assert model(copy).fingerprint == before
    weights = load_file(copy / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    assert model(copy).fingerprint != before


def test_padding_and_cuts_are_on_the_right(copy):
    AutoTokenizer.from_pretrained(copy, padding_side="left", truncation_side="left").save_pretrained(copy)
    assert AutoTokenizer.from_pretrained(copy).padding_side == "left"
    read = model(copy).tokenizer("en")
    assert (read.padding_side, read.truncation_side) == ("right", "right")


def test_weights_are_checked_without_being_read(copy):
    model(copy).without_values(AutoModelForMaskedLM)
    model(copy).without_values(AutoModelForTokenClassification)
    weights = load_file(copy / "model.safetensors")
    headless = {name: value for name, value in weights.items() if not name.startswith("cls.")}
    save_file(headless, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"models\.m .*its weights lack cls\..*masked-LM head"):
        model(copy).without_values(AutoModelForMaskedLM)
    model(copy).without_values(AutoModelForTokenClassification)
    del headless["bert.encoder.layer.1.output.dense.bias"]
    save_file(headless, copy / "model.safetensors", {"format": "pt"})
    for auto_class in (AutoModelForMaskedLM, AutoModelForTokenClassification):
        with pytest.raises(UserError, match=r"lack bert\.encoder\.layer\.1\.output.* use a complete checkpoint"):
            model(copy).without_values(auto_class)
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"models\.m .*cannot be loaded: .*model\.safetensors"):
        model(copy).without_values(AutoModelForTokenClassification)
    torch.save(weights, copy / "pytorch_model.bin")
    with pytest.raises(
        UserError, match=r"models\.m .*not safetensors.*; convert them with python -c .*model\.safetensors"
    ):
        model(copy).without_values(AutoModelForTokenClassification)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("./gone", "there is no such folder$"), ("out/gone", "there is no such folder, and as a hub id: .*connect")],
)
def test_a_folder_that_is_not_there_is_named_as_such(name, reason):
    for load in (
        lambda: model(name).transformers_config,
        lambda: model(name).tokenizer("en"),
        lambda: model(name).without_values(AutoModelForMaskedLM),
    ):
        with pytest.raises(UserError, match=rf"^models\.m \({name}\): .*{reason}"):
            load()


@pytest.mark.parametrize("labels", [7, 9])
@pytest.mark.parametrize("trained", [AutoModelForTokenClassification, AutoModelForSequenceClassification])
@pytest.mark.parametrize(
    "auto_class", [AutoModelForTokenClassification, AutoModelForSequenceClassification, AutoModelForQuestionAnswering]
)
def test_a_head_is_new_whatever_the_checkpoint_has(copy, tmp_path, auto_class, trained, labels):
    """The head is the same as for a checkpoint with the same encoder and no head."""
    fine_tuned = trained.from_pretrained(copy, num_labels=labels)
    for name, folder in (("head", fine_tuned), ("none", fine_tuned.base_model)):
        shutil.copytree(copy, tmp_path / name)
        folder.save_pretrained(tmp_path / name)

    def start(name: str, seed: int) -> dict:
        model(tmp_path / name).without_values(auto_class)
        torch.manual_seed(seed)
        return model(tmp_path / name).with_head(auto_class, num_labels=7).state_dict()

    with_head, without, other = start("head", 1), start("none", 1), start("head", 2)
    assert with_head.keys() == without.keys()
    assert all(torch.equal(value, without[key]) for key, value in with_head.items())
    encoder = fine_tuned.state_dict()
    for key, value in with_head.items():
        if key.startswith("bert.") and key in encoder:
            assert torch.equal(value, encoder[key])
            assert torch.equal(value, other[key])
        elif key.endswith("weight"):
            assert not torch.equal(value, other[key])


@pytest.mark.parametrize("auto_class", [AutoModelForMaskedLM, AutoModelForTokenClassification])
def test_an_encoder_of_another_size_than_its_configuration_is_refused(copy, auto_class):
    weights = load_file(copy / "model.safetensors")
    rows = weights["bert.embeddings.word_embeddings.weight"]
    weights["bert.embeddings.word_embeddings.weight"] = rows[:-1].clone()
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    sizes = rf"\[{len(rows) - 1}, {rows.shape[1]}\], but its config.json implies \[{len(rows)}, {rows.shape[1]}\]"
    with pytest.raises(UserError, match=rf"its weight bert\.embeddings\.word_embeddings\.weight has the shape {sizes}"):
        model(copy).without_values(auto_class)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_weights_are_named(copy, value):
    weights = load_file(copy / "model.safetensors")
    weights["bert.embeddings.position_embeddings.weight"][3] = value
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    for load in (lambda: model(copy).masked_lm, lambda: model(copy).with_head(AutoModelForTokenClassification)):
        with pytest.raises(UserError, match=r"models\.m .*bert\.embeddings\.position_embeddings\.weight has NaN"):
            load()


@pytest.mark.parametrize("name", list(world.TEACHERS))
def test_a_tokenizer_without_files_is_not_made_up(teachers, tmp_path, name):
    """transformers would make one of special tokens, for which all text is unknown."""
    shutil.copytree(teachers / name, tmp_path, dirs_exist_ok=True)
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match=r"models\.m .*has no tokenizer, .* copy the tokenizer's files there"):
        model(tmp_path).tokenizer("en")


def test_a_model_that_is_unloaded_is_gone_and_comes_again(copy):
    read = model(copy)
    first = read.masked_lm
    read.unload()
    assert read.masked_lm is not first
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), read.masked_lm.parameters(), strict=True))
    read.unload()
    read.unload()
