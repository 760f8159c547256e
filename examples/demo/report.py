"""The demo's report: how well teacher, student and MLM-only student predict held-out masked tokens."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from pipeline.drift import format_report
from schemas.tables import format_table

# Verses of Ruth, a held-out book, with the word to guess in braces.
EXAMPLES = {
    "en": "your people shall be my {people}, and your God my God;",
    "zh": "你的 神就是我的 {神}；",
    "tl": "ang iyong bayan ay magiging aking bayan, at ang iyong Dios ay aking {Dios}:",
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
            "",
            "## The default tokenizer",
            "",
            "On the held-out books, beside each language's own:",
            "",
            "```",
            format_report(json.loads((root / "drift.json").read_text())),
            "```",
        ]
    )
    (root / "report.md").write_text(text + "\n", encoding="utf-8")
    print("\n" + text)


def _table(root: Path) -> list[str]:
    student = json.loads((root / "student" / "evaluation.json").read_text())["languages"]
    mlm_only = json.loads((root / "mlm-only" / "evaluation.json").read_text())["languages"]
    columns = {
        "frequencies": {language: frequency_baseline(root, language) for language in student},
        "teacher": {language: (row["teacher_accuracy"], row["teacher_nll"]) for language, row in student.items()},
        "MLM-only student": {language: (row["accuracy"], row["nll"]) for language, row in mlm_only.items()},
        "student": {language: (row["accuracy"], row["nll"]) for language, row in student.items()},
    }
    for column in columns.values():
        column["**mean**"] = tuple(np.mean(list(column.values()), axis=0))
    rows = [
        [language, *(f"{column[language][0]:.3f} / {column[language][1]:.3f}" for column in columns.values())]
        for language in columns["student"]
    ]
    lines = [format_table(["language", *columns], rows, is_markdown=True)]

    def distance(other: str, language: str) -> str:
        accuracy, nll = np.subtract(columns["student"][language], columns[other][language])
        return f"{accuracy:+.3f} accuracy, {nll:+.3f} NLL"

    lines += ["", "The student, compared (higher accuracy and lower NLL are better):", ""]
    lines.append(f"- with the MLM-only student, on average: {distance('MLM-only student', '**mean**')}")
    lines += [f"- with its {language} teacher: {distance('teacher', language)}" for language in student]
    return lines


def frequency_baseline(root: Path, language: str) -> tuple[float, float]:
    """(accuracy, NLL) of guessing each held-out label by its frequency among the training labels (add one)."""
    of_language = {"columns": ["labels"], "filters": [("language", "==", language)]}
    train, heldout = (
        np.concatenate(pq.read_table(root / folder, **of_language)["labels"].to_numpy())
        for folder in ("predictions", "heldout")
    )
    vocabulary = pq.read_table(root / "predictions" / "_vocabulary.parquet")
    teacher = next(name for name in vocabulary.column_names if name.startswith(f"{language}-"))
    is_known = vocabulary[teacher].is_valid().to_numpy()
    counts = np.bincount(train, minlength=len(is_known)) + is_known
    return float((heldout == counts.argmax()).mean()), float(-np.log(counts[heldout] / counts.sum()).mean())


@torch.no_grad()
def _examples(root: Path) -> list[str]:
    """What the student fills in, with plain transformers and the tokenizer of each language."""
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
        guesses = zip(names.convert_ids_to_tokens(top.indices.tolist()), top.values.tolist(), strict=True)
        shown = ", ".join(f"`{token}` {probability:.2f}" for token, probability in guesses)
        lines.append(f"- {language}: {before}**[{word}]**{after} → {shown}")
    return lines
