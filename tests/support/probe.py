"""Loads exported folders with the transformers on the path; run in a separate process with another version.

python tests/support/probe.py FOLDER.. < lines.json > found.json
"""

import json
import sys
import tempfile

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer


def probe_tokenizer(folder: str, lines: list[str]) -> dict:
    """Returns ids and decoded text, also after adding a token, and after saving and loading that."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(lines)["input_ids"]
    actual = {
        "ids": ids,
        "pairs": tokenizer(lines[:-1], lines[1:])["input_ids"],
        "decoded": tokenizer.batch_decode(ids),
        "plain": tokenizer.batch_decode(ids, skip_special_tokens=True),
        "inputs": sorted(tokenizer(lines[0])),
        "special": sorted(tokenizer.all_special_ids),
        "roles": [getattr(tokenizer, f"{name}_token_id") for name in ("pad", "unk", "cls", "sep", "mask")],
        "longest": min(tokenizer.model_max_length, 2**31),
        "length": len(tokenizer),
    }
    tokenizer.add_tokens(["<new>"])
    with tempfile.TemporaryDirectory() as saved:
        tokenizer.save_pretrained(saved)
        again = AutoTokenizer.from_pretrained(saved)
    actual["added"] = [
        [grown.convert_tokens_to_ids("<new>"), len(grown), grown(lines)["input_ids"]] for grown in (tokenizer, again)
    ]
    return actual


@torch.no_grad()
def probe_model(folder: str) -> dict:
    """Returns logits, and whether rows stay the same when the embedding grows for `<new>`."""
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    before = model.get_input_embeddings().weight.clone()
    # Two rows, the second with padding; this needs no id of a special token.
    ids = torch.arange(2 * 20).remainder(len(before)).view(2, 20)
    mask = torch.ones_like(ids)
    mask[1, 15:] = 0
    logits = model(input_ids=ids, attention_mask=mask).logits[mask.bool()].tolist()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ready = model(**tokenizer("abc", return_tensors="pt")).logits.shape[-1]
    tokenizer.add_tokens(["<new>"])
    model.resize_token_embeddings(len(tokenizer))
    after = model.get_input_embeddings().weight
    return {
        "logits": logits,
        "ready": ready,
        "rows": [len(before), len(after)],
        "kept": after[: len(before)].equal(before),
    }


def probe(tokenizers: list[str], models: list[str], lines: list[str]) -> dict[str, dict]:
    """Returns JSON values by folder."""
    return {folder: probe_tokenizer(folder, lines) for folder in tokenizers} | {
        f"model of {folder}": probe_model(folder) for folder in models
    }


if __name__ == "__main__":
    json.dump(probe(**json.load(sys.stdin)), sys.stdout)
