"""`python -m examples.claims.methods`: the effect of each addition to the paper's method, on or off, with three seeds.

It uses the teachers and text of `make claims`, which must run first, and those of `../shared/data` if it exists.
"""

import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from examples.claims.plan import GROUPS, from_teachers
from examples.claims.runs import DISTILLATION, Runs
from examples.schedule import run_steps
from schemas.storage import write_bytes
from schemas.tables import format_table

ROOT = Path("claims")
SHARED = Path("../shared/data")
SEEDS = (0, 1, 2)
STEPS = 400
# Per language: more than the steps read.
CHAPTERS = 400
# Paragraphs of the Python documentation, shorter than chapters.
PARAGRAPHS = 8000
SHARED_TEACHERS = {"es": "es-unigram", "fr": "fr-bpe", "en": "en-wordpiece"}
# Of their further training; they are larger than the claims' teachers.
SHARED_STEPS, SHARED_RATE = 500, 1e-3
FALLING = {"0.40": 0.4, "0.25": 0.25, "0.15": 0.15}


def main() -> None:
    """Runs what is missing and writes `claims/methods.md`."""
    parts = ["# What each addition brings", ""]
    tables = {"The claims' unrelated languages": unrelated()}
    tables["Several teachers of English and of French"] = several()
    if SHARED.is_dir():
        tables["English, Spanish and French documentation"] = documentation()
    else:
        print(f"methods: {SHARED} does not exist, so its teachers are skipped")
    for title, (runs, names) in tables.items():
        run_steps(runs.steps, runs.root, processes=2)
        parts += [f"## {title}", "", _table(runs.root, names), ""]
    parts.append(
        f"{STEPS} steps; means over languages of held-out figures; mean and standard deviation of {len(SEEDS)} seeds."
    )
    text = "\n".join(parts) + "\n"
    write_bytes(str(ROOT / "methods.md"), text.encode())
    print(text)


def unrelated() -> tuple[Runs, list[str]]:
    """Plans the students on the claims' unrelated languages; returns them and their names without seeds."""
    runs = Runs(ROOT)
    languages = list(GROUPS["unrelated"])
    teachers = {language: [language] for language in languages}
    # Chinese shares too few tokens with English for combinations of anchors.
    alignments = ("orthogonal", "least_squares")
    names = _methods(runs, "methods", teachers, from_teachers(languages[0]), CHAPTERS, alignments)
    names.append(_mixture(runs, "methods-mixture", teachers, from_teachers(languages[0]), CHAPTERS))
    return runs, names


def several() -> tuple[Runs, list[str]]:
    """Plans the students of the claims' overlapping teachers; returns them and their names without seeds.

    English and French have two teachers each, with different vocabularies: the students compare the better one alone, both
    with half of the text each, and both with all of it. The held-out text is that of the better ones.
    """
    runs = Runs(ROOT)
    ways: dict[str, dict[str, list[str] | dict[str, float]]] = {
        "best": {"en": ["en"], "fr": ["multi-fr-en"], "es": ["multi-es-fr-en"]},
        "halves": {
            "en": {"en": 0.5, "multi-fr-en": 0.5},
            "fr": {"multi-fr-en": 0.5, "multi-es-fr-en": 0.5},
            "es": ["multi-es-fr-en"],
        },
        "all": {"en": ["en", "multi-fr-en"], "fr": ["multi-fr-en", "multi-es-fr-en"], "es": ["multi-es-fr-en"]},
    }
    heldout = "methods-best"
    names = []
    for way, teachers in ways.items():
        capture = f"methods-{way}"
        runs.capture(capture, teachers, max_records=CHAPTERS)
        settings = {
            "student": from_teachers("multi-es-fr-en"),
            "heldout": f"{ROOT}/heldout/{heldout}",
            "needs": (f"heldout-{heldout}",),
        }
        names.append(_students(runs, capture, capture, settings))
    return runs, names


def documentation() -> tuple[Runs, list[str]]:
    """Plans the students of the teachers in `../shared/data`; returns them and their names without seeds."""
    root = ROOT / "shared"
    runs = Runs(root)
    for language, teacher in SHARED_TEACHERS.items():
        for split in ("train", "heldout"):
            target = root / "corpora" / language / f"{split}.txt"
            write_bytes(str(target), (SHARED / "raw" / f"{language}.{split}.txt").read_bytes())
        link = root / "teachers" / language
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to((SHARED / "teachers" / teacher).resolve())
    student = {
        "architecture_from": str(root / "teachers" / "es"),
        "encoder_from": "es",
        "embeddings_from_teachers": True,
    }
    teachers = {language: [language] for language in SHARED_TEACHERS}
    names = _methods(runs, "methods", teachers, student, PARAGRAPHS, ("orthogonal", "least_squares", "omp"))
    for language in SHARED_TEACHERS:
        runs.masked(language, str(root / "teachers" / language), (f"{language}/train",), "long")
        runs.further(language, SHARED_STEPS, SHARED_RATE, start_from=language)
    names.append(_mixture(runs, "methods-mixture", teachers, student, PARAGRAPHS))
    return runs, names


def _methods(
    runs: Runs,
    capture: str,
    teachers: dict[str, list[str]],
    student: dict[str, Any],
    records: int,
    alignments: tuple[str, ...],
) -> list[str]:
    """Adds steps of students with one addition each; returns their names without seeds."""
    runs.capture(capture, teachers, max_records=records)
    for rate in FALLING:
        if rate != "0.25":
            masking = {"mlm_probability": FALLING[rate]}
            runs.capture(f"{capture}-{rate}", teachers, max_records=records, masking=masking)
    by_rate = {rate: capture if rate == "0.25" else f"{capture}-{rate}" for rate in FALLING}
    falling = [
        {"until": until, "predictions": runs.predictions(name)}
        for until, name in zip((0.5, 0.8, None), by_rate.values(), strict=True)
    ]
    base = {"student": student, "distillation": DISTILLATION | {"tail": "bucket"}}
    changed: dict[str, dict[str, Any]] = {
        "base": base,
        "sampled-tail": base | {"distillation": DISTILLATION},
        **{name.replace("_", "-"): base | {"student": student | {"token_alignment": name}} for name in alignments},
        "falling-rate": base | {"stages": falling, "needs": tuple(f"long-{name}" for name in by_rate.values())},
        "falling-alpha": base
        | {"stages": [{"until": 0.5, "alpha": 0.7}, {"until": 0.8, "alpha": 0.5}, {"alpha": 0.3}]},
        "annealing": base | {"distillation": base["distillation"] | {"kd_weight": 0.8, "final_kd_weight": 0.2}},
    }
    names = [_students(runs, f"{capture}-{name}", capture, settings) for name, settings in changed.items()]
    runs.capture(f"{capture}-string", teachers, max_records=records, token_identity="string")
    return [*names, _students(runs, f"{capture}-identity-string", f"{capture}-string", base)]


def _mixture(runs: Runs, capture: str, teachers: dict[str, list[str]], student: dict[str, Any], records: int) -> str:
    """Adds steps of students of averaged teachers; returns their name without seeds.

    Each teacher is averaged at each position with itself after further steps.
    """
    mixed_with = {teacher: f"{teacher}-further" for (teacher,) in teachers.values()}
    runs.capture(capture, teachers, max_records=records, mixed_with=mixed_with)
    base = {"student": student, "distillation": DISTILLATION | {"tail": "bucket"}}
    return _students(runs, capture, capture, base)


def _students(runs: Runs, name: str, capture: str, settings: dict[str, Any]) -> str:
    for seed in SEEDS:
        runs.student(f"{name}-{seed}", capture, STEPS, **settings, seed=seed)
    return name


def _table(root: Path, names: list[str]) -> str:
    """Returns the figures of each addition and the difference to the base, seed by seed."""
    figures = {name: [_scores(root / "students" / f"{name}-{seed}") for seed in SEEDS] for name in names}
    base = figures[names[0]]
    rows = []
    for name, by_seed in figures.items():
        columns = [
            *zip(*by_seed, strict=True),
            *zip(
                *(
                    [a - b for a, b in zip(ours, theirs, strict=True)]
                    for ours, theirs in zip(by_seed, base, strict=True)
                ),
                strict=True,
            ),
        ]
        rows.append([name, *(f"{mean(column):+.4f} ± {stdev(column):.4f}" for column in columns)])
    heads = ["", "accuracy", "NLL", "accuracy beside base", "NLL beside base"]
    return format_table(heads, rows, is_markdown=True)


def _scores(student: Path) -> tuple[float, float]:
    """Returns (accuracy, NLL), means over the languages."""
    languages = json.loads((student / "evaluation.json").read_text())["languages"].values()
    return mean(scores["accuracy"] for scores in languages), mean(scores["nll"] for scores in languages)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; run it again to go on")
