"""The demo's report: how well teacher, student and MLM-only student predict held-out masked tokens."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

# One sentence a language, the word to guess in braces.
EXAMPLES = {
    "en": "In the beginning God created the {heavens} and the earth.",
    "zh": "起初 神创造{天}地。",
    "tl": "Nang pasimula ay nilikha ng {Dios} ang langit at ang lupa.",
}


def write_report(root: Path) -> None:
    """Prints the report and writes it to `root/report.md`."""
    text = "\n".join(
        [
            "# One student from three teachers",
            "",
            "Masked tokens of held-out books: accuracy of the first guess, and mean negative log-likelihood in nats.",
            "*Frequencies* guesses by how often each token stands in the training text, whatever the context. The",
            "teacher's figures are over its own vocabulary, the students' over the merged one, which is larger.",
            "",
            *_table(root),
            "",
            "## Filling in a mask",
            "",
            *_examples(root),
        ]
    )
    (root / "report.md").write_text(text + "\n", encoding="utf-8")
    print("\n" + text)


def _table(root: Path) -> list[str]:
    student = json.loads((root / "student" / "evaluation.json").read_text())
    mlm_only = json.loads((root / "mlm-only" / "evaluation.json").read_text())
    columns = {
        "frequencies": {language: frequency_baseline(root, language) for language in student},
        "teacher": {language: (row["teacher_accuracy"], row["teacher_nll"]) for language, row in student.items()},
        "MLM-only student": {language: (row["accuracy"], row["nll"]) for language, row in mlm_only.items()},
        "student": {language: (row["accuracy"], row["nll"]) for language, row in student.items()},
    }
    for column in columns.values():
        column["**mean**"] = tuple(np.mean(list(column.values()), axis=0))
    lines = ["| language | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for language in columns["student"]:
        cells = [f"{column[language][0]:.3f} / {column[language][1]:.3f}" for column in columns.values()]
        lines.append(f"| {language} | " + " | ".join(cells) + " |")

    def gain(other: str) -> str:
        accuracy, nll = (ours - theirs for ours, theirs in zip(columns["student"]["**mean**"], columns[other]["**mean**"], strict=True))
        return f"{accuracy:+.3f} accuracy, {nll:+.3f} NLL"

    lines += ["", f"On average the student is at {gain('MLM-only student')} from the MLM-only student"]
    lines += [f"and at {gain('teacher')} from the teachers (lower NLL is better)."]
    for language in student:
        ours, theirs = columns["student"][language], columns["teacher"][language]
        lines.append(f"- {language}: {ours[0] - theirs[0]:+.3f} accuracy, {ours[1] - theirs[1]:+.3f} NLL from its teacher")
    return lines


def frequency_baseline(root: Path, language: str) -> tuple[float, float]:
    """(accuracy, NLL) of guessing each held-out label by its frequency among the training labels (add one)."""
    train, heldout = (
        np.concatenate(pq.read_table(root / folder, columns=["labels"], filters=[("language", "==", language)])["labels"].to_numpy())
        for folder in ("predictions", "heldout")
    )
    vocabulary = pq.read_table(root / "predictions" / "_vocabulary.parquet")
    owners = [name for name in vocabulary.column_names if name.startswith(f"{language}-")]
    own = vocabulary[owners[0]].is_valid().to_numpy()
    counts = np.bincount(train, minlength=len(own)) + own
    return float((heldout == counts.argmax()).mean()), float(-np.log(counts[heldout] / counts.sum()).mean())


@torch.no_grad()
def _examples(root: Path) -> list[str]:
    """What the student fills in, by plain transformers, from each language's own tokenizer."""
    model = AutoModelForMaskedLM.from_pretrained(root / "student").eval()
    names = AutoTokenizer.from_pretrained(root / "student")
    lines = []
    for language, sentence in EXAMPLES.items():
        tokenizer = AutoTokenizer.from_pretrained(root / "student", subfolder=f"tokenizers/{language}")
        before, rest = sentence.split("{")
        word, after = rest.split("}")
        ids = tokenizer(before + tokenizer.mask_token + after, return_tensors="pt")
        place = (ids["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0, 0]
        top = model(**ids).logits[0, place].softmax(-1).topk(5)
        guesses = [f"{names.convert_ids_to_tokens(i)} {p:.2f}" for p, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
        lines.append(f"- {language}: {before}**[{word}]**{after} → {', '.join(guesses)}")
    return lines
