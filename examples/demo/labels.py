"""Labelled and parallel text for the demo, from the same Bible translations: each verse's kind of book and its translation.

Models are fine-tuned on verses that teachers and students have seen without labels, and tested on verses of books that no
model has seen. All editions have the same verses in the same order.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from examples.demo.corpora import EDITIONS, HELDOUT_BOOKS, clean, read_edition
from schemas.storage import write_bytes

# Books by number: Genesis, Exodus, Joshua to Esther, Matthew to Acts; Isaiah to Malachi; Romans to Jude.
KINDS = {
    "narrative": {1, 2, *range(6, 18), *range(40, 45)},
    "prophecy": set(range(23, 40)),
    "letter": set(range(45, 66)),
}
# Verses of each kind: enough to tell models apart, and few enough to fine-tune dozens of models in minutes. Each kind has the
# same number, so that accuracy does not depend on how often a model predicts the most frequent kind in training.
VERSES = {"train": 400, "test": 200}


def make_labels(root: Path, editions: Mapping[str, str] = EDITIONS) -> None:
    """Writes `labels/<language>/{train,test}.tsv` (verse, kind of book) and `labels/<language>/verses.txt` (parallel)."""
    texts = {
        language: read_edition(root / "downloads", edition)
        for language, edition in editions.items()
        if not (root / "labels" / language / "verses.txt").exists()
    }
    for language, verses in texts.items():
        folder = root / "labels" / language
        labelled = [(book, clean(text), kind) for book, _, text in verses for kind in KINDS if book in KINDS[kind]]
        for split, count in VERSES.items():
            usable = [row[1:] for row in labelled if row[1] and (row[0] in HELDOUT_BOOKS) == (split == "test")]
            _write(folder / f"{split}.tsv", ("\t".join(row) for row in sample_kinds(usable, count)))
        # If an edition joins two verses, one of them is empty, and retrieval would find the wrong one.
        _write(folder / "verses.txt", (clean(text) or "-" for book, _, text in verses if book in HELDOUT_BOOKS))


def sample_kinds(rows: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """Returns `count` of the (verse, kind) of each kind, at random but always the same, in their order."""
    order = np.random.default_rng(0).permutation(len(rows))
    chosen: list[int] = []
    for kind in KINDS:
        chosen += [index for index in order if rows[index][1] == kind][:count]
    return [rows[index] for index in sorted(chosen)]


def _write(path: Path, lines: Iterable[str]) -> None:
    write_bytes(str(path), ("\n".join(lines) + "\n").encode())
