"""Teacher folders that cannot be loaded as they are give one line with the reason and the remedy, never a traceback."""

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, ElectraConfig, ElectraForPreTraining

from pipeline.config import TeacherConfig
from pipeline.teachers.model import check_model, load_model, teacher_fingerprint
from pipeline.teachers.predictor import try_forward
from pipeline.teachers.tokenizer import TeacherTokenizer, load_tokenizer
from schemas.errors import UserError
from tests.support import world
from tests.support.commands import SECONDS
from tests.support.teachers import load

WEIGHTS = "model.safetensors"


def use(folder: Path):
    """Does everything that a run does with a teacher's model before its first row."""
    config = TeacherConfig(model=str(folder), languages=["x"])
    tokenizer = load_tokenizer("t", config)
    model = load_model("t", config)
    check_model(tokenizer, model, 4, 16)
    return try_forward(model, tokenizer, torch.device("cpu"), 16), model


@pytest.fixture
def folder(teachers, tmp_path) -> Path:
    return Path(shutil.copytree(teachers / "en-wordpiece", tmp_path / "a teacher's"))


def change_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        use(folder)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("teacher 't' (") and not message.endswith((": ", ":"))
    return message


@pytest.mark.heavy
@pytest.mark.parametrize("files", [1, 2])
def test_pickled_weights_are_converted_by_the_command_that_is_printed(folder, files):
    model = AutoModelForMaskedLM.from_pretrained(folder)
    # This includes the tied decoder, which shares memory with the embedding, so that safetensors would refuse it.
    weights = list(model.state_dict().items())
    (folder / WEIGHTS).unlink()
    for number in range(files):
        name = "pytorch_model.bin" if files == 1 else f"pytorch_model-{number + 1:05}-of-{files:05}.bin"
        torch.save(dict(weights[number::files]), folder / name)
    command = re.search("convert them with (python -c .*)", refusal(folder))[1]
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True, timeout=SECONDS)
    assert use(folder)[1].state_dict().keys() == dict(weights).keys()
    assert all(torch.equal(tensor, dict(weights)[name]) for name, tensor in use(folder)[1].state_dict().items())


def test_a_discriminator_names_its_generator(folder):
    vocabulary = len(load_tokenizer("t", TeacherConfig(model=str(folder), languages=["x"])).tokens)
    shape = {"hidden_size": 16, "embedding_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ElectraForPreTraining(ElectraConfig(vocab_size=vocabulary, intermediate_size=16, **shape)).save_pretrained(folder)
    assert re.search("lack .*discriminator, trained to detect replaced tokens; use its generator", refusal(folder))


def test_weights_of_another_shape_are_named(folder):
    change_config(folder, intermediate_size=48)
    assert (
        "its weight bert.encoder.layer.0.intermediate.dense.bias has the shape [32], but its config.json implies [48]"
        in refusal(folder)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, "expected int, got NoneType"),
        ({"vocab_size": -1}, "negative dimension"),
        ({"vocab_size": 60}, "its weight .* but its config.json implies|its embedding has 60 rows"),
        ({"num_attention_heads": 3}, "not a multiple of the number of attention heads"),
        ({"hidden_act": "x"}, "KeyError: 'x'"),
        ({"model_type": "unheard-of"}, "does not recognize this architecture"),
        ({"model_type": "ibert"}, "its weights lack"),
        ({"model_type": "flaubert"}, "its weights lack"),
        ({"model_type": "gpt2"}, "Unrecognized configuration class|cannot be loaded"),
        ({"is_decoder": True}, "so it is not a masked LM"),
    ],
)
def test_configurations(folder, changes, message):
    change_config(folder, **changes)
    assert re.search(message, refusal(folder))


@pytest.mark.parametrize("content", ["null", "[]", '"x"', "", '{"model_type":', "{}"])
def test_a_config_that_is_none(folder, content):
    (folder / "config.json").write_text(content)
    refusal(folder)


@pytest.mark.parametrize("damage", ["gone", "empty", "short", "junk", "no head", "folder"])
def test_weights(folder, damage):
    weights = folder / WEIGHTS
    if damage == "no head":
        tensors = load_file(weights)
        save_file({name: tensor for name, tensor in tensors.items() if "cls." not in name}, weights, {"format": "pt"})
    content = weights.read_bytes()
    if damage in ("gone", "folder"):
        weights.unlink()
    if damage == "folder":
        weights.mkdir()
    if damage in ("empty", "short", "junk"):
        weights.write_bytes({"empty": b"", "short": content[:5000], "junk": b"\xff" * 5000}[damage])
    refusal(folder)


@pytest.mark.heavy
def test_no_traceback_for_any_folder(folder):
    """Each seeded mutation of the configuration or the weights works or is refused in one line."""
    source = random.Random(13)
    config, weights = json.loads((folder / "config.json").read_text()), (folder / WEIGHTS).read_bytes()
    values = [None, -1, 0, 1, 3, 10**9, 10**13, 1.5, "x", "", [], {}, True, [1], {"a": 1}]
    refused = 0
    for number in range(150):
        changed, content = dict(config), bytearray(weights)
        if number % 3:
            key = source.choice(sorted(config.keys()))
            changed[key] = source.choice(values)
        else:
            for _ in range(source.randint(1, 20)):
                # In the header, which has names, shapes and offsets.
                content[source.randrange(3000)] = source.randrange(256)
        (folder / "config.json").write_text(json.dumps(changed))
        (folder / WEIGHTS).write_bytes(content)
        try:
            use(folder)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 1000
    assert 50 < refused < 150


def write_bert(folder: Path, tokens: list[str], rows: int) -> TeacherTokenizer:
    """Writes a BERT with a `vocab.txt` and an embedding of `rows` rows."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertForMaskedLM(BertConfig(vocab_size=rows, **shape)).save_pretrained(folder)
    return load(folder)


def test_an_embedding_of_another_size(tmp_path, caplog):
    tokens = [*world.BERT_SPECIALS, *(f"w{number}" for number in range(195))]
    teacher = write_bert(tmp_path / "150", tokens, 150)
    with pytest.raises(UserError, match="ids up to 199, but its embedding has 150 rows"):
        check_model(teacher, AutoModelForMaskedLM.from_pretrained(tmp_path / "150"), 8, 16)
    teacher = write_bert(tmp_path / "few", tokens[:7], 8)
    few = AutoModelForMaskedLM.from_pretrained(tmp_path / "few")
    with pytest.raises(
        UserError, match="the size of its vocabulary, so there is no tail for tail_samples; lower top_k"
    ):
        check_model(teacher, few, 7, 16, tail_samples=1)
    check_model(teacher, few, 6, 16, tail_samples=1)
    check_model(teacher, few, 7, 16)
    # Padding to a round number is fine; more rows without a token may mean a wrong tokenizer.
    for rows, warned in ((256, False), (400, True)):
        teacher = write_bert(tmp_path / str(rows), tokens, rows)
        check_model(teacher, AutoModelForMaskedLM.from_pretrained(tmp_path / str(rows)), 8, 16)
        assert ("only up to 199, but its embedding has 400 rows" in caplog.text) == warned


def test_a_scalar_weight_counts_in_the_fingerprint(folder):
    tokenizer, model = load(folder), load_model("t", TeacherConfig(model=str(folder), languages=["x"]))
    fingerprints = {teacher_fingerprint(tokenizer, model)}
    for scale in (1.0, 2.0):
        model.register_buffer("scale", torch.tensor(scale))
        fingerprints.add(teacher_fingerprint(tokenizer, model))
    assert len(fingerprints) == 3
