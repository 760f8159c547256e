"""The demo's report: how students and teachers predict held-out masked tokens, and the path of the HTML page."""

import json
from collections.abc import Callable
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
TEACHERS = {"en": "en-wordpiece", "zh": "zh-unigram", "tl": "tl-bpe"}
STUDENTS = {
    "student": "student",
    "student-random": "student, random start",
    "mlm-only": "MLM-only",
    "mlm-only-random": "MLM-only, random start",
}


def write_report(root: Path) -> None:
    """Prints the report and writes it to `root/report.md`."""
    text = "\n".join(
        [
            "# One student from three teachers",
            "",
            "Masked tokens of held-out books: accuracy of the first guess, and mean negative log-likelihood in nats. The",
            "*student* starts from its teachers, *random start* is the paper's way. *MLM-only* students see no predictions of",
            "teachers. *Teacher further* is the teacher trained on, for about as many steps as the student takes in its",
            "language.",
            "",
            *_table(root),
            "",
            _frequencies(root),
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
            "",
            f"Everything else, with intervals, curves and transfer between languages: {root}/evaluation/report.html",
        ]
    )
    (root / "report.md").write_text(text + "\n", encoding="utf-8")
    print("\n" + text)


def _table(root: Path) -> list[str]:
    """Returns a table of all models on the same masked tokens."""
    results = json.loads((root / "evaluation" / "report.json").read_text())["results"]
    masked = {
        (result["model"], result["language"], result["metric"]): result["value"]
        for result in results
        if result["task"] == "masked"
    }

    def of(model: Callable[[str], str]) -> dict[str, tuple[float, float]]:
        return {
            language: (masked[model(language), language, "accuracy"], masked[model(language), language, "nll"])
            for language in EXAMPLES
        }

    columns = {
        "teacher": of(TEACHERS.__getitem__),
        "teacher further": of("{}-further".format),
    }
    for student, title in STUDENTS.items():
        columns[title] = of(lambda language, student=student: student)
    for column in columns.values():
        column["**mean**"] = tuple(np.mean(list(column.values()), axis=0))
    rows = [
        [title, *(f"{accuracy:.3f} / {nll:.3f}" for accuracy, nll in column.values())]
        for title, column in columns.items()
    ]
    return [format_table(["", *columns["teacher"]], rows, is_markdown=True)]


def _frequencies(root: Path) -> str:
    """Returns the scores of word frequencies alone."""
    figures = {language: frequency_baseline(root, language) for language in EXAMPLES}
    listed = ", ".join(f"{language} {accuracy:.3f} / {nll:.3f}" for language, (accuracy, nll) in figures.items())
    return f"Guessing by how often each token stands in the training text gives {listed}, on other masked tokens of the same books."


def frequency_baseline(root: Path, language: str) -> tuple[float, float]:
    """Returns (accuracy, NLL) of guessing each held-out label by its frequency among the training labels (add one)."""
    of_language = {"columns": ["labels"], "filters": [("language", "==", language)]}
    train, heldout = (
        np.concatenate(pq.read_table(root / folder, **of_language)["labels"].to_numpy())
        for folder in ("predictions", "heldout")
    )
    vocabulary = pq.read_table(root / "predictions" / "_vocabulary.parquet")
    is_known = vocabulary[TEACHERS[language]].is_valid().to_numpy()
    counts = np.bincount(train, minlength=len(is_known)) + is_known
    return float((heldout == counts.argmax()).mean()), float(-np.log(counts[heldout] / counts.sum()).mean())


@torch.no_grad()
def _examples(root: Path) -> list[str]:
    """Returns the student's guesses, with plain transformers and the tokenizer of each language."""
    model = AutoModelForMaskedLM.from_pretrained(root / "student").eval()
    names = AutoTokenizer.from_pretrained(root / "student")
    lines = []
    for language, sentence in EXAMPLES.items():
        tokenizer = AutoTokenizer.from_pretrained(root / "student", subfolder=f"tokenizers/{language}")
        before, rest = sentence.split("{")
        word, after = rest.split("}")
        ids = tokenizer(before + tokenizer.mask_token + after, return_tensors="pt")
        position = (ids["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0, 0]
        top = model(**ids).logits[0, position].softmax(-1).topk(5)
        guesses = zip(names.convert_ids_to_tokens(top.indices.tolist()), top.values.tolist(), strict=True)
        shown = ", ".join(f"`{token}` {probability:.2f}" for token, probability in guesses)
        lines.append(f"- {language}: {before}**[{word}]**{after} → {shown}")
    return lines
