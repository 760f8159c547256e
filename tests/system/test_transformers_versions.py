"""transformers 4.57 reads exported folders the same as the version that wrote them, and tokens can be added to them."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoConfig

from pipeline.config import TeacherConfig
from pipeline.student_tokenizers.remap import remap_tokenizer
from pipeline.student_tokenizers.store import make_tokenizers, write_tokenizers
from pipeline.student_tokenizers.word_counts import WORDS_SCHEMA
from pipeline.teachers.tokenizer import load_tokenizer
from pipeline.vocabulary.merge import merge
from schemas.manifest import DEFAULT_TOKENIZER, TEACHER_TOKENIZERS
from schemas.predictions import open_predictions
from tests.support import world
from tests.support.commands import SECONDS, run
from tests.support.paths import ROOT
from tests.support.probe import probe
from tests.support.teachers import CORPUS
from trainer.config import TrainerConfig
from trainer.distributed import Runtime
from trainer.loop.train import train

# Includes the dependencies that it needs in other versions than ours; it shares all others.
OLDER = ["transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.2"]
LINES = [
    *CORPUS[:6],
    *(line for language in world.WORDS for line in world.sentences(language, 5)),
    "The", " a", "a ", "  a  b\t\n", "don't , do n't . ( x )", "New York and <ent>, [unused7]", "<mask> x <mask>y",
    "[MASK] x",
    # The text that ids of other teachers' tokens decode to.
    "\uffff 12", "\uffff", "\uffff12\uffff", "a\uffff 30", "\uffff", "",
]  # fmt: skip


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """A function that probes folders with transformers 4.57 in a separate process."""
    folder = tmp_path_factory.mktemp("older")
    done = run("pip", "install", "--quiet", "--no-deps", "--target", folder, *OLDER)
    if done.returncode:
        pytest.skip(f"pip brings no transformers 4.57 here: {done.stderr[-300:]}")

    def probe_by_older(**arguments) -> dict[str, dict]:
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests" / "support" / "probe.py")],
            input=json.dumps(arguments),
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return probe_by_older


@pytest.fixture(scope="module")
def students(predictions, tmp_path_factory) -> list[str]:
    """A BERT, a DistilBERT, and a ModernBERT with unusual rotary embeddings and layers."""
    folder = tmp_path_factory.mktemp("students")
    shape = {"num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 40}
    AutoConfig.for_model(
        "modernbert",
        num_hidden_layers=4,
        layer_types=["full_attention", "sliding_attention"] * 2,
        local_attention=6,
        rope_parameters={
            "full_attention": {"rope_theta": 777.0, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 33.0, "rope_type": "default"},
        },
        **shape,
    ).save_pretrained(folder / "like")
    distilled = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 40}
    for name, student in {
        "bert": {"settings": {"model_type": "bert", "num_hidden_layers": 1, **shape}},
        "distilbert": {"settings": {"model_type": "distilbert", **distilled}},
        "modernbert": {"architecture_from": str(folder / "like")},
    }.items():
        settings = {"output": str(folder / name), "predictions": str(predictions), "student": student, "max_steps": 1}
        train(TrainerConfig(**settings), Runtime(0, 1, torch.device("cpu"), torch.float32))
    return [str(folder / name) for name in ("bert", "distilbert", "modernbert")]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory) -> dict[str, tuple]:
    """Vocabulary size and ids by folder: teachers of every family with all kinds of added tokens, and the default."""
    folder = tmp_path_factory.mktemp("tokenizers")
    teachers = []
    for name in ("wordpiece", "unigram", "bpe", "bpe-unprefixed"):
        tokenizer = world.make_tokenizer(name.split("-")[0], CORPUS)
        if name == "bpe-unprefixed":
            tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = False
        tokenizer.add_tokens(["New York", "[unused7]"])
        tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<ent>", rstrip=True)]})
        mask = "[MASK]" if name == "wordpiece" else "<mask>"
        tokenizer.add_special_tokens({"mask_token": AddedToken(mask, lstrip=True, special=True)})
        tokenizer.save_pretrained(folder / name)
        teachers.append(load_tokenizer(name, TeacherConfig(model=str(folder / name), languages=["x"])))
    vocabulary = merge(teachers)
    remapped = {teacher.name: remap_tokenizer(teacher.hf, vocabulary.to_merged(teacher.name)) for teacher in teachers}
    write_tokenizers(str(folder), make_tokenizers(remapped, vocabulary, WORDS_SCHEMA.empty_table()))
    expected = {str(folder / DEFAULT_TOKENIZER): (len(vocabulary), None)}
    for teacher in teachers:
        to_merged = vocabulary.to_merged(teacher.name)
        ids = [to_merged[teacher.hf(line)["input_ids"]].tolist() for line in LINES]
        expected[str(folder / TEACHER_TOKENIZERS / teacher.name)] = (len(vocabulary), ids)
    return expected


@pytest.fixture(scope="module")
def folders(tokenizers, students, predictions) -> dict:
    """The folders to probe, as `tokenizers` and `models`, and the lines."""
    of_students = [f"{students[0]}/tokenizers/{language}" for language in world.WORDS]
    return {"tokenizers": [*tokenizers, *students, *of_students], "models": students, "lines": LINES}


@pytest.fixture(scope="module")
def ours(folders) -> dict[str, dict]:
    return json.loads(json.dumps(probe(**folders)))


def test_an_older_transformers_reads_the_same(folders, ours, older):
    theirs = older(**folders)
    assert theirs.keys() == ours.keys()
    for folder, actual in ours.items():
        if "logits" in actual:
            logits = (torch.tensor(of_version.pop("logits")) for of_version in (actual, theirs[folder]))
            torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)
        for what, value in actual.items():
            assert theirs[folder][what] == value, (folder, what)


def test_a_token_more_takes_no_merged_id(ours, tokenizers, students, predictions):
    sizes = {folder: size for folder, (size, _) in tokenizers.items()}
    student_size = len(open_predictions(str(predictions)).vocabulary)
    for folder, actual in ours.items():
        if "rows" in actual:
            assert actual["rows"] == [student_size, student_size + 1] and actual["kept"]
            continue
        size = sizes.get(folder, student_size)
        assert actual["length"] == size, folder
        # Directly, and after saving and loading.
        assert actual["added"] == [[size, size + 1, actual["ids"]]] * 2, folder


def test_what_fills_the_gaps_is_never_given(ours, tokenizers):
    for folder, (_, expected) in tokenizers.items():
        if expected:
            assert ours[folder]["ids"] == expected, folder
        decoded = zip(ours[folder]["decoded"], LINES, strict=True)
        assert not any("\uffff" in text and "\uffff" not in line for text, line in decoded)
