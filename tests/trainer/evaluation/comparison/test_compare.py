"""A whole comparison of models whose order is known: copies of one model with increasing noise in the weights."""

import json

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from tests.support import world
from trainer.evaluation.__main__ import main
from trainer.evaluation.masking import mask_text

pytestmark = pytest.mark.heavy

NOISE = {"quiet": 0.0, "noisy": 0.04, "noisier": 0.08, "noisiest": 0.16}


@pytest.fixture(scope="module")
def candidates(tmp_path_factory, teachers):
    """A small, briefly trained English model, and copies of it with noise."""
    folder = tmp_path_factory.mktemp("candidates")
    tokenizer = AutoTokenizer.from_pretrained(teachers / "en-wordpiece")
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            max_position_embeddings=64, hidden_dropout_prob=0, attention_probs_dropout_prob=0,
        )
    )  # fmt: skip
    _train(model, tokenizer)
    trained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, level in NOISE.items():
        torch.manual_seed(1)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                parameter.copy_(trained[key] + level * torch.randn_like(parameter))
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


def _train(model, tokenizer):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    lines = world.sentences("en", 200)
    for step in range(120):
        masked = mask_text(lines[step % 10 :: 10], tokenizer, 32)
        rows = np.split(masked.ids_T, np.cumsum(masked.lengths_N)[:-1])
        batch = tokenizer.pad({"input_ids": [row.tolist() for row in rows]}, return_tensors="pt")
        logits = model(**batch).logits[batch["input_ids"] == tokenizer.mask_token_id]
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(masked.labels_M)).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def settings(candidates, teachers, tmp_path):
    for language, count in (("en", 60), ("ru", 20)):
        (tmp_path / f"{language}.txt").write_text("\n".join(world.sentences(language, count)) + "\n", encoding="utf-8")
    pairs = [f"{line}\t{' '.join(reversed(line.split()))}" for line in world.sentences("en", 20)]
    (tmp_path / "pairs.tsv").write_text("\n".join(["sen\twrong_sen", *pairs]) + "\n", encoding="utf-8")
    return {
        "output": str(tmp_path / "out"),
        # Not ordered by quality.
        "models": {
            "noisiest": {"model": str(candidates / "noisiest")},
            "noisy": {"model": str(candidates / "noisy"), "languages": ["en"]},
            "quiet": {"model": str(candidates / "quiet"), "languages": ["en"]},
            "copy": {"model": str(candidates / "quiet"), "languages": ["en"]},
            "noisier": {"model": str(candidates / "noisier"), "languages": ["en"]},
            "russian": {"model": str(teachers / "ru-unigram")},
        },
        "text": {language: [str(tmp_path / f"{language}.txt")] for language in ("en", "ru")},
        "minimal_pairs": {"en": [str(tmp_path / "pairs.tsv")]},
        "max_length": world.MAX_LENGTH,
        "bootstrap_samples": 200,
        "comparison": {
            "routing": str(tmp_path / "routing.yaml"),
            "corpora": {"en": [str(tmp_path / "en.txt")]},
        },
    }


def run(settings, tmp_path, **changes):
    path = tmp_path / "evaluation.yaml"
    path.write_text(yaml.safe_dump(settings | changes, sort_keys=False))
    return main([str(path)])


def test_the_order_is_that_of_the_noise(settings, tmp_path, capsys):
    assert run(settings, tmp_path) == 0
    english, russian = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [one["name"] for one in english["candidates"]] == [
        "quiet",
        "copy",
        "noisy",
        "noisier",
        "noisiest",
        "russian",
    ]
    assert [one["rank"] for one in english["candidates"]] == [1, 1, 3, 4, 5, 6]
    assert (english["chosen"], english["tied"]) == ("quiet", ["copy"])
    assert "no clear difference from quiet" in english["candidates"][1]["reasons"][0]
    assert english["candidates"][2]["differences"]["bits_per_character"]["low"] > 0

    pairs = json.loads((tmp_path / "out" / "scores" / "minimal_pairs" / "noisy" / "en.json").read_text())
    (scores,) = pairs["scores"]
    share = np.mean(scores["ratios"]["accuracy"]["numerators"])
    assert english["candidates"][2]["figures"]["minimal_pairs"] == pytest.approx(share)

    # Only candidates for Russian are listed there, and only those that read it are ranked.
    assert [(one["name"], one["rank"]) for one in russian["candidates"]] == [("russian", 1), ("noisiest", None)]

    figures = english["candidates"][0]["figures"]
    size = (tmp_path / "en.txt").stat().st_size
    tokenization = json.loads((tmp_path / "out" / "scores" / "tokenization" / "quiet" / "en.json").read_text())
    tokens = size / tokenization["scores"][0]["figures"]["bytes_per_token"]
    assert figures["hours"] == pytest.approx(tokens / figures["tokens_per_second"] / 3600)
    assert "hours" not in russian["candidates"][0]["figures"]

    routing = (tmp_path / "routing.yaml").read_text()
    assert yaml.safe_load(routing) == {
        "quiet": {"model": settings["models"]["quiet"]["model"], "languages": ["en"]},
        "russian": {"model": settings["models"]["russian"]["model"], "languages": ["ru"]},
    }
    assert "no clear difference from copy" in routing
    markdown = (tmp_path / "out" / "comparison.md").read_text()
    assert markdown in capsys.readouterr().out

    # Scores are kept, so the same command writes the same files. A new run measures speed again and chooses the same.
    before = (tmp_path / "out" / "comparison.json").read_bytes()
    assert run(settings, tmp_path) == 0
    assert (tmp_path / "out" / "comparison.json").read_bytes() == before
    assert run(settings, tmp_path, output=str(tmp_path / "again")) == 0
    assert (tmp_path / "routing.yaml").read_text() == routing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": ["quiet", "gone"]}, "comparison.candidates: there is no model 'gone' in `models`"),
        ({"corpora": {"fr": ["x.txt"]}}, "comparison.corpora.fr: `text` does not have the language 'fr'"),
        ({"corpora": {"en": ["gone.txt"]}}, "comparison.corpora: text.en: no file matches 'gone.txt'"),
        ({"routing": "{tmp_path}/en.txt"}, "comparison.routing: {tmp_path}/en.txt exists and is not a routing"),
    ],
)
def test_bad_input_is_one_line_before_any_model_runs(settings, tmp_path, capsys, changes, message):
    if routing := changes.get("routing"):
        changes = {"routing": routing.format(tmp_path=tmp_path)}
    assert run(settings, tmp_path, comparison=settings["comparison"] | changes) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message.format(tmp_path=tmp_path) in line
    assert not (tmp_path / "out").exists()
