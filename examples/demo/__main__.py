"""The whole demo: text, teachers, predictions, students, report. Everything is written below `demo/`.

Each step runs a command that a user would; the files in this folder are their configurations. Two steps run at a time.
Rerun it to go on: finished steps are skipped.
"""

import sys
import time
from pathlib import Path
from string import Template

from examples.demo.corpora import make_corpora
from examples.demo.labels import make_labels
from examples.demo.report import write_report
from examples.schedule import Step, run_steps, seconds_of

ROOT = Path("demo")
CONFIGS = Path(__file__).parent
VOCABULARY_SIZE = 6000

# name: (language, tokenizer family, the model type whose users use that family)
TEACHERS = {
    "en-wordpiece": ("en", "wordpiece", "bert"),
    "zh-unigram": ("zh", "unigram", "xlm-roberta"),
    "tl-bpe": ("tl", "bpe", "roberta"),
}
# A few masked copies of the training text, because a small teacher reads it several times. All held-out targets are
# masked, so that none can be copied from the input.
SPLITS = {
    "train": {"copies": 4, "mask": 0.8, "random": 0.1, "seed": 1},
    "heldout": {"copies": 1, "mask": 1.0, "random": 0.0, "seed": 2},
}
RANDOM = ("student.encoder_from=null", "student.embeddings_from_teachers=false")
GOLD = ("distillation={kd_weight: 0}",)
# What differs from student.yaml: the paper's way, and students that see no teacher's predictions.
STUDENTS = {"student": (), "student-random": RANDOM, "mlm-only": GOLD, "mlm-only-random": (*RANDOM, *GOLD)}


def main() -> None:
    """Runs every step and says how long it took."""
    started = time.monotonic()
    make_corpora(ROOT)
    make_labels(ROOT)
    run_steps(list(steps()), ROOT, processes=2)
    write_report(ROOT)
    merge = sum(seconds_of(ROOT, name) for name in ("predictions", "student"))
    print(f"\ndemo: {time.monotonic() - started:.0f} s in all; predictions and student took {merge:.0f} s")


def steps() -> list[Step]:
    """All steps, whose configurations are filled in below `demo/configs`."""
    made = []
    for name, (language, family, model_type) in TEACHERS.items():
        text = str(ROOT / "corpora" / language / "train.txt")
        arguments = (family, str(VOCABULARY_SIZE), str(ROOT / "tokenizers" / name), text)
        made.append(Step(f"tokenizer-{name}", ("-m", "examples.demo.tokenizers", *arguments)))
        values = {"name": name, "language": language, "model_type": model_type}
        for split, settings in SPLITS.items():
            config = _fill("teacher-text.yaml", f"{name}-{split}", values | settings | {"split": split})
            made.append(Step(f"text-{name}-{split}", ("-m", "pipeline", config), (f"tokenizer-{name}",)))
        texts = tuple(f"text-{name}-{split}" for split in SPLITS)
        made.append(Step(name, ("-m", "trainer", _fill("teacher.yaml", name, values)), texts))
        made.append(Step(f"{name}-further", ("-m", "trainer", _fill("teacher-further.yaml", name, values)), (name,)))
    made += [
        Step(split, ("-m", "pipeline", str(CONFIGS / f"{split}.yaml")), tuple(TEACHERS))
        for split in ("predictions", "heldout")
    ]
    for name, overrides in STUDENTS.items():
        arguments = ("-m", "trainer", str(CONFIGS / "student.yaml"), f"output={ROOT / name}", *overrides)
        made.append(Step(name, arguments, ("predictions", "heldout")))
    heldout = [f"--text={language}={ROOT}/corpora/{language}/heldout.txt" for language, _, _ in TEACHERS.values()]
    drift = ("-m", "pipeline.drift", f"{ROOT}/predictions", *heldout, f"--json={ROOT}/drift.json")
    made.append(Step("drift", drift, ("predictions",)))
    further = tuple(f"{name}-further" for name in TEACHERS)
    made.append(
        Step("evaluation", ("-m", "trainer.evaluation", str(CONFIGS / "evaluation.yaml")), (*further, *STUDENTS))
    )
    return made


def _fill(template: str, name: str, values: dict[str, object]) -> str:
    """Fills a configuration template into `demo/configs/`."""
    target = ROOT / "configs" / f"{Path(template).stem}-{name}.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    # `$schema` is not a placeholder but what editors look for.
    target.write_text(Template((CONFIGS / template).read_text()).substitute(values, schema="$schema"))
    return str(target)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; run it again to go on")
