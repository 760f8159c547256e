"""The whole demo: text, teachers, predictions, student, report. Everything is written below `demo/`.

Each step runs the same commands that a user would; the files in this folder are their
configurations. Rerun it to go on: finished steps are skipped.
"""

import subprocess
import sys
import time
from pathlib import Path
from string import Template

from examples.demo.corpora import make_corpora
from examples.demo.report import write_report
from examples.demo.tokenizers import make_tokenizer

ROOT = Path("demo")
CONFIGS = Path(__file__).parent
VOCABULARY_SIZE = 6000

# name: (language, tokenizer family, the model type whose users use that family)
TEACHERS = {
    "en-wordpiece": ("en", "wordpiece", "bert"),
    "zh-unigram": ("zh", "unigram", "xlm-roberta"),
    "tl-bpe": ("tl", "bpe", "roberta"),
}
# Many masked copies of the training text, because a small teacher reads it several times. All held-out targets are
# masked, so that none can be copied from the input.
SPLITS = {
    "train": {"copies": 6, "mask": 0.8, "random": 0.1, "seed": 1},
    "heldout": {"copies": 1, "mask": 1.0, "random": 0.0, "seed": 2},
}


def main() -> None:
    """Runs every step in order and says how long each took."""
    started = time.monotonic()
    make_corpora(ROOT)
    for name, (language, family, model_type) in TEACHERS.items():
        make_tokenizer(family, ROOT / "corpora" / language / "train.txt", VOCABULARY_SIZE, ROOT / "tokenizers" / name)
        values = {"name": name, "language": language, "model_type": model_type}
        for split, settings in SPLITS.items():
            _run("pipeline", _fill("teacher-text.yaml", f"{name}-{split}", values | settings | {"split": split}))
        _run("trainer", _fill("teacher.yaml", name, values))
    _run("pipeline", CONFIGS / "heldout.yaml")
    merge_started = time.monotonic()
    _run("pipeline", CONFIGS / "predictions.yaml")
    _run("trainer", CONFIGS / "student.yaml")
    merge_seconds = time.monotonic() - merge_started
    _run("trainer", CONFIGS / "mlm-only.yaml")
    heldout = [f"{language}={ROOT}/corpora/{language}/heldout.txt" for language, _, _ in TEACHERS.values()]
    _run("pipeline.drift", ROOT / "predictions", *(f"--text={each}" for each in heldout), f"--json={ROOT}/drift.json")
    write_report(ROOT)
    seconds = time.monotonic() - started
    print(f"\ndemo: {seconds:.0f} s in all, of which the merge (predictions and student) {merge_seconds:.0f} s")


def _fill(template: str, name: str, values: dict[str, object]) -> Path:
    """Fills a configuration template into `demo/configs/`."""
    target = ROOT / "configs" / f"{Path(template).stem}-{name}.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    # `$schema` is not a placeholder but what editors look for.
    target.write_text(Template((CONFIGS / template).read_text()).substitute(values, schema="$schema"))
    return target


def _run(module: str, path: Path, *options: str) -> None:
    command = [sys.executable, "-m", module, str(path), *options]
    shown = path.relative_to(Path.cwd()) if path.is_absolute() else path
    print(f"\n$ {' '.join(['python -m', module, str(shown), *options])}", flush=True)
    started = time.monotonic()
    if code := subprocess.run(command).returncode:
        sys.exit(code)
    print(f"  ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; run it again to go on")
