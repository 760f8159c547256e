"""`python -m benchmarks.capture`: the pipeline's teacher inference compared with what a user would write, on a CPU.

The teacher has BERT-base's shape, a vocabulary of 119,547 tokens and random weights. It predicts in three ways:

  reference  the loop a user would write: lines in batches of 32 in their order, logits, log-softmax and top-k at every
             position, Parquet by `datasets`. It is slow, so it runs a random sample of the batches for a given time.
             Only the loop and the writing count, not loading the teacher.
  ours       `python -m pipeline` over all lines. "whole command" is all of it. "while predicting" is the difference to a
             small run, in seconds and in tokens, so it excludes startup, loading, the audit and fitting the tokenizers.
  bare       the encoder, and the head at masked positions only, over prepared tensors of the pipeline's rows, sorted by
             length. The result is dropped: this is the upper bound for torch here.

Padding does not count as tokens. bfloat16 gets several times as many lines. Every run is a separate process, so that peak
memory is measured separately. (The peak of a child is never below that of its parent, so this process does not import
torch.)

Needs `pip install -r benchmarks/requirements.txt`.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from schemas.tables import format_table

TOP_K, MAX_LENGTH, BATCH_LINES = 8, 128, 32
# The other tokens do not occur in the text, like most of the vocabulary of a multilingual teacher.
TRAINED_TOKENS = 30_000
LANGUAGES = "ar bg ca cs da de el es et fa fi fr gl he hi hr hu id it ja ko lt lv nl pl pt ro ru sk sv tr uk vi zh_Hans"
# As many lines as the pipeline audits, so that the small run includes the whole audit.
SMALL_LINES = 64
# A faster run needs more lines for the same precision of measurement.
TIMES_LINES = {"float32": 1, "bfloat16": 4}
GOALS = {"float32": 5, "bfloat16": 12, "bare": 0.9}
# Rounding alone may swap log-probabilities that are closer than this.
GAP = 1e-3


class Figures(NamedTuple):
    """What a run computed, and its cost."""

    tokens: int
    masked: int
    seconds: float
    peak_mib: float

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds

    def without(self, small: "Figures") -> "Figures":
        """Returns the difference to a small run; its seconds are NaN if noise makes them zero or negative."""
        seconds = self.seconds - small.seconds
        return Figures(
            self.tokens - small.tokens, self.masked - small.masked, seconds if seconds > 0 else math.nan, self.peak_mib
        )


# The functions from here to `_in_subprocess` run in separate processes.


def make_world(folder: str, text: str, lines: int, layers: int, vocabulary: int) -> dict:
    """Writes teacher and text into `folder`; returns the CPU's capabilities."""
    import torch
    from transformers import BertConfig, BertForMaskedLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    source = Path(text).read_text(encoding="utf-8").splitlines() if text else _translated_lines()
    source = [line for line in source if line.strip()]
    for name, count in {"small": SMALL_LINES, **{name: lines * times for name, times in TIMES_LINES.items()}}.items():
        chosen = source[:: max(1, len(source) // count)][:count]
        Path(folder, f"{name}.txt").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    tokenizer = _make_tokenizer(source, vocabulary)
    tokenizer.save_pretrained(f"{folder}/teacher")
    torch.manual_seed(0)
    # A wide initialization makes predictions differ from each other.
    config = BertConfig(vocab_size=vocabulary, num_hidden_layers=layers, initializer_range=0.06)
    BertForMaskedLM(config).save_pretrained(f"{folder}/teacher")
    known = torch.cpu.get_capabilities()
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "bfloat16": [name for name in ("amx_bf16", "avx512_bf16") if known.get(name)],
    }


def _translated_lines() -> list[str]:
    """Returns Django's translations with languages mixed; a line is 1 to 16 successive messages of one language."""
    from tests.support.realtext import translations

    source, lines = random.Random(0), []
    for language in LANGUAGES.split():
        messages = iter(translations(language))
        while line := [message for _, message in zip(range(source.randint(1, 16)), messages, strict=False)]:
            lines.append(" ".join(line))
    source.shuffle(lines)
    return lines


def _make_tokenizer(lines: list[str], vocabulary: int):
    """Returns a WordPiece of exactly `vocabulary` tokens: trained on the text, then filled up with pieces that do not occur."""
    from transformers import BertTokenizer

    trained = BertTokenizer(do_lower_case=False).train_new_from_iterator(
        lines, min(TRAINED_TOKENS, vocabulary), show_progress=False
    )
    tokens = sorted(trained.vocab, key=trained.vocab.get)
    tokens += [f"{'##' * (number % 2)}filler{number}" for number in range(vocabulary - len(tokens))]
    return BertTokenizer({token: number for number, token in enumerate(tokens)}, do_lower_case=False)


def _teacher(folder: str, dtype: str):
    import torch
    from transformers import AutoModelForMaskedLM

    return AutoModelForMaskedLM.from_pretrained(f"{folder}/teacher", dtype=getattr(torch, dtype)).eval()


def measure_reference(folder: str, seconds: float) -> dict:
    """Measures what a user would write, over a random sample of the batches, for about `seconds`."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling

    tokenizer, model = AutoTokenizer.from_pretrained(f"{folder}/teacher"), _teacher(folder, "float32")
    lines = Path(folder, "float32.txt").read_text(encoding="utf-8").splitlines()
    batches = [lines[start : start + BATCH_LINES] for start in range(0, len(lines), BATCH_LINES)]
    random.Random(0).shuffle(batches)
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    to_merged = torch.arange(len(tokenizer))
    rows = {"input_ids": [], "masked_positions": [], "labels": [], "topk_ids": [], "topk_logprobs": []}
    tokens = masked = padded = 0

    def predict(lines: list[str]) -> dict:
        batch = collate([tokenizer(line, truncation=True, max_length=MAX_LENGTH) for line in lines])
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        top = torch.log_softmax(logits, dim=-1).topk(TOP_K)
        return batch | {"topk_ids": to_merged[top.indices], "topk_logprobs": top.values}

    with torch.no_grad():
        predict(batches[0])
        started = time.perf_counter()
        for lines in batches:
            batch = predict(lines)
            chosen, inside = batch["labels"] != -100, batch["attention_mask"].bool()
            for row in range(len(lines)):
                rows["input_ids"].append(to_merged[batch["input_ids"][row, inside[row]]].tolist())
                rows["masked_positions"].append(chosen[row].nonzero()[:, 0].tolist())
                rows["labels"].append(to_merged[batch["labels"][row, chosen[row]]].tolist())
                for name in ("topk_ids", "topk_logprobs"):
                    rows[name].append(batch[name][row, chosen[row]].flatten().tolist())
            tokens, masked = tokens + int(inside.sum()), masked + int(chosen.sum())
            padded += inside.numel()
            if time.perf_counter() - started > seconds:
                break
    Dataset.from_dict(rows).to_parquet(f"{folder}/reference.parquet")
    return {
        "tokens": tokens,
        "masked": masked,
        "seconds": time.perf_counter() - started,
        "lines": len(rows["labels"]),
        "padding": 1 - tokens / padded,
    }


def _read_rows(predictions: str, columns: list[str]) -> tuple[list[dict], "np.ndarray"]:  # noqa: F821
    """Returns the pipeline's rows, and the teacher's id of each merged id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from schemas.predictions import open_predictions

    opened = open_predictions(predictions)
    tables = [pq.read_table(file.url, columns=columns, partitioning=None) for file in opened.files]
    return pa.concat_tables(tables).to_pylist(), opened.vocabulary.teacher_ids["teacher"].astype("int64")


def _pad(rows: list[dict], teacher_ids) -> tuple:
    """Returns teacher ids [B, L], attention mask [B, L], and masked positions [M] as indices into the flattened batch."""
    import torch

    ids = [torch.from_numpy(teacher_ids[row["input_ids"]]) for row in rows]
    ids_BL = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    length = ids_BL.shape[1]
    mask_BL = torch.arange(length) < torch.tensor([len(row) for row in ids])[:, None]
    masked = [number * length + position for number, row in enumerate(rows) for position in row["masked_positions"]]
    return ids_BL, mask_BL.long(), torch.tensor(masked)


def measure_bare(
    folder: str, predictions: str, dtype: str, batch_tokens: list[int], stride: int, with_top_k: bool
) -> list[dict]:
    """Measures encoder and head over every `stride`-th of the pipeline's rows, once for each batch size."""
    import torch

    torch.set_num_threads(os.cpu_count())
    model = _teacher(folder, dtype)
    rows, teacher_ids = _read_rows(predictions, ["input_ids", "masked_positions"])
    rows = sorted(rows[::stride], key=lambda row: len(row["input_ids"]), reverse=True)
    tokens, masked = (sum(len(row[name]) for row in rows) for name in ("input_ids", "masked_positions"))

    def run(ids_BL, mask_BL, masked_M) -> None:
        hidden_BLH = model.base_model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
        logits_MV = model.cls(hidden_BLH.flatten(0, 1)[masked_M])
        if with_top_k:
            logits_MV.float().log_softmax(-1).topk(TOP_K)

    figures = []
    with torch.inference_mode():
        for size in batch_tokens:
            batches, start = [], 0
            while start < len(rows):  # The longest rows first.
                end = start + max(1, size // len(rows[start]["input_ids"]))
                batches.append(_pad(rows[start:end], teacher_ids))
                start = end
            run(*batches[0])
            started = time.perf_counter()
            for batch in batches:
                run(*batch)
            figures.append({"tokens": tokens, "masked": masked, "seconds": time.perf_counter() - started})
    return figures


def compare(folder: str, predictions: str, count: int) -> dict:
    """Compares the reference's computation over `count` of the pipeline's rows with what is stored in them."""
    import numpy as np
    import torch

    names = ["input_ids", "masked_positions", "labels", "label_logprobs", "topk_ids", "topk_logprobs"]
    rows, teacher_ids = _read_rows(predictions, names)
    rows = rows[:: max(1, len(rows) // count)][:count]
    model, certain, equal, off_label, off_top_k = _teacher(folder, "float32"), [], [], [], []
    with torch.no_grad():
        for start in range(0, len(rows), BATCH_LINES):
            batch = rows[start : start + BATCH_LINES]
            ids_BL, mask_BL, masked_M = _pad(batch, teacher_ids)
            logits_BLV = model(input_ids=ids_BL, attention_mask=mask_BL).logits
            logprobs_MV = torch.log_softmax(logits_BLV, dim=-1).flatten(0, 1)[masked_M].numpy()
            del logits_BLV
            labels, label_logprobs, topk_ids, topk_logprobs = (
                np.concatenate([row[name] for row in batch]) for name in names[2:]
            )
            off_label.append(logprobs_MV[np.arange(len(labels)), teacher_ids[labels.astype(int)]] - label_logprobs)
            order = np.argsort(-logprobs_MV, axis=1)[:, : TOP_K + 1]
            gaps = -np.diff(np.take_along_axis(logprobs_MV, order, 1), axis=1, prepend=np.inf) > GAP
            certain.append(gaps[:, :-1] & gaps[:, 1:])
            ids = teacher_ids[topk_ids.astype(int)].reshape(-1, TOP_K)
            equal.append(order[:, :TOP_K] == ids)
            stored = topk_logprobs.astype(np.float16).reshape(-1, TOP_K)
            away = np.abs(np.take_along_axis(logprobs_MV, ids, 1) - stored.astype(np.float32))
            off_top_k.append(np.maximum(0, away - np.spacing(np.abs(stored)).astype(np.float32) / 2))
    certain, equal = np.concatenate(certain), np.concatenate(equal)
    return {
        "rows": len(rows),
        "predictions": equal.size,
        "certain": int(certain.sum()),
        "agreeing": int((equal & certain).sum()),
        "off_label": float(np.abs(np.concatenate(off_label)).max()),
        "off_top_k": float(np.concatenate(off_top_k).max()),
    }


def _run(command: list[str], folder: Path) -> tuple[str, float, float]:
    """Returns output, seconds and peak memory in MiB of a command."""
    errors = folder / "stderr.txt"
    started = time.perf_counter()
    with errors.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{output}{errors.read_text()}exit code {process.returncode}")
    return output, seconds, usage.ru_maxrss / 1024


def _in_subprocess(folder: Path, function: str, *arguments):
    code = f"import json; from benchmarks.capture import *; print(json.dumps({function}(*{arguments!r})))"
    output, _, peak_mib = _run([sys.executable, "-c", code], folder)
    return json.loads(output.splitlines()[-1]), peak_mib


def _pipeline(folder: Path, text: str, dtype: str) -> tuple[Figures, str]:
    """Returns figures of the pipeline's whole command over `text`, and its output folder."""
    from schemas.predictions import open_predictions

    name, output = f"{text}-{dtype}", str(folder / f"predictions-{text}-{dtype}")
    config = {
        "output": output,
        "teachers": {
            "teacher": {"model": str(folder / "teacher"), "languages": ["text"], "dtype": dtype, "device": "cpu"}
        },
        "text": {"text": [str(folder / f"{text}.txt")]},
        "top_k": TOP_K,
        "max_length": MAX_LENGTH,
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML.
    _, seconds, peak_mib = _run([sys.executable, "-m", "pipeline", str(path)], folder)
    files = [file.record for file in open_predictions(output).files]
    tokens, masked = sum(file.tokens for file in files), sum(file.masked_positions for file in files)
    return Figures(tokens, masked, seconds, peak_mib), output


def _bare(folder: Path, predictions: str, dtype: str, sizes: list[int]) -> dict[str, Figures]:
    """Measures the bare loop with the fastest batch size, after trying all sizes on a quarter of the rows."""
    common = "measure_bare", str(folder), predictions, dtype
    tried, _ = _in_subprocess(folder, *common, sizes, 4, False)
    best = sizes[min(range(len(sizes)), key=lambda index: tried[index]["seconds"])]
    (alone,), peak_mib = _in_subprocess(folder, *common, [best], 1, False)
    (with_top_k,), more_mib = _in_subprocess(folder, *common, [best], 4, True)
    return {
        f"bare {dtype}, {best} tokens a batch": Figures(**alone, peak_mib=peak_mib),
        f"bare {dtype}, with log-softmax and top-k (of a quarter)": Figures(**with_top_k, peak_mib=more_mib),
    }


def _cells(what: str, figures: Figures, reference: Figures) -> list[str]:
    return [
        what,
        f"{figures.tokens:,}",
        f"{figures.masked:,}",
        f"{figures.seconds:.1f}",
        f"{figures.rate:,.0f}",
        f"{figures.masked / figures.seconds:,.0f}",
        f"{figures.peak_mib:,.0f}",
        f"{figures.rate / reference.rate:.2f}",
    ]


def _measure(folder: Path, options: argparse.Namespace, dtypes: list[str]) -> bool:
    """Prints the table of all runs; returns whether ours agrees with the reference."""
    measured, peak_mib = _in_subprocess(folder, "measure_reference", str(folder), options.reference_seconds)
    lines, padding = measured.pop("lines"), measured.pop("padding")
    reference = Figures(**measured, peak_mib=peak_mib)
    print(f"the reference read {lines:,} lines; {padding:.0%} of what it computed was padding\n")
    rows = {"reference float32, the loop": reference}
    summary, outputs = [], {}
    for dtype in dtypes:
        small, _ = _pipeline(folder, "small", dtype)
        whole, outputs[dtype] = _pipeline(folder, dtype, dtype)
        predicting = whole.without(small)
        rows |= {
            f"ours {dtype}, small run": small,
            f"ours {dtype}, whole command": whole,
            f"ours {dtype}, while predicting": predicting,
        }
        bare = _bare(folder, outputs[dtype], dtype, options.bare_batch_tokens)
        rows |= bare
        for what, peer, goal in (
            ("reference", reference, GOALS[dtype]),
            ("bare", next(iter(bare.values())), GOALS["bare"]),
        ):
            summary.append(
                f"ours {dtype} / {what}: {predicting.rate / peer.rate:.2f} while predicting, "
                f"{whole.rate / peer.rate:.2f} the whole command (goal {goal}); "
                f"peak memory {whole.peak_mib:,.0f} / {peer.peak_mib:,.0f} MiB"
            )
    head = ["", "tokens", "masked", "seconds", "tokens/s", "masked/s", "peak MiB", "x reference"]
    print(format_table(head, [_cells(what, figures, reference) for what, figures in rows.items()]))
    print("\n" + "\n".join(summary))
    same, _ = _in_subprocess(folder, "compare", str(folder), outputs["float32"], options.compare_rows)
    print(
        f"the reference's computation over {same['rows']:,} rows of ours float32: of {same['predictions']:,} predictions, "
        f"{same['certain']:,} are at least {GAP} nats from their neighbours, and {same['agreeing']:,} of these agree "
        f"({same['agreeing'] / same['certain']:.2%}); log-probabilities differ by at most {same['off_label']:.1e} nats "
        f"(labels), {same['off_top_k']:.1e} (top-k, beyond float16's rounding)"
    )
    return same["agreeing"] == same["certain"]


def main(arguments: list[str]) -> int:
    """Prints the table, the ratios and the agreement; returns 1 if ours and the reference disagree."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, help="new or empty folder for the files, which are kept (default: a temporary folder)"
    )
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="text, one record per line (default: a mix of Django's texts)"
    )
    parser.add_argument(
        "--lines", type=int, default=600, help="lines to read in float32 (600); bfloat16 reads 4 times as many"
    )
    parser.add_argument("--reference-seconds", type=float, default=60, help="how long the reference may take (60)")
    parser.add_argument("--bare-batch-tokens", type=int, nargs="+", default=[1024, 2048, 4096], metavar="N")
    parser.add_argument("--compare-rows", type=int, default=300, help="rows to compare with the reference (300)")
    parser.add_argument("--layers", type=int, default=12, help="layers of the teacher (12)")
    parser.add_argument("--vocabulary", type=int, default=119_547, help="tokens of the teacher (119547)")
    options = parser.parse_args(arguments)
    if options.folder and options.folder.exists() and any(options.folder.iterdir()):
        parser.error(f"--folder {options.folder} is not empty; give a new or empty folder")
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        text = str(options.text or "")
        machine, _ = _in_subprocess(
            folder, "make_world", str(folder), text, options.lines, options.layers, options.vocabulary
        )
        native = machine["bfloat16"]
        print(
            f"{os.cpu_count()} cores, torch {machine['torch']} ({machine['threads']} threads), native bfloat16: "
            f"{', '.join(native) or 'none, so it is left out'}"
        )
        return 0 if _measure(folder, options, ["float32", "bfloat16"] if native else ["float32"]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
