"""The whole demo: text, teachers, predictions, students, report. Everything is written below `demo/`.

Each step runs a command as a user would; the files in this folder are the configurations. Two steps run at a time.
Rerun it to resume: finished steps are skipped.
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

# name: (language, tokenizer family, the model type that usually has that family)
TEACHERS = {
    "en-wordpiece": ("en", "wordpiece", "bert"),
    "zh-unigram": ("zh", "unigram", "xlm-roberta"),
    "tl-bpe": ("tl", "bpe", "roberta"),
}
# The text that a teacher is trained on. On short sequences a small model learns to use the context after a few hundred steps,
# on longer ones after thousands, so it reads the short ones first. All held-out targets are masked, so that none can be
# copied from the input.
TEXTS = {
    "short": {"split": "train", "max_length": 16, "copies": 2, "mask": 0.8, "random": 0.1, "seed": 1},
    "long": {"split": "train", "max_length": 32, "copies": 2, "mask": 0.8, "random": 0.1, "seed": 2},
    "heldout": {"split": "heldout", "max_length": 32, "copies": 1, "mask": 1.0, "random": 0.0, "seed": 3},
}
CAPTURES = {
    "predictions": ("predictions.yaml",),
    "predictions-short": ("predictions.yaml", "output=demo/predictions-short", "max_length=16"),
    "heldout": ("heldout.yaml",),
}
RANDOM = (
    "student.encoder_from=null",
    "student.embeddings_from_teachers=false",
    "stages=[{until: 0.3, predictions: demo/predictions-short}, {}]",
    # With a higher rate it learns only word frequencies.
    "optimizer.learning_rate=1.0e-3",
)
GOLD = ("distillation={kd_weight: 0}",)
# The differences from student.yaml: the paper's method, and students without teacher predictions.
STUDENTS = {
    "student": (),
    "student-random": RANDOM,
    "mlm-only": GOLD,
    "mlm-only-random": (*RANDOM, *GOLD),
}


def main() -> None:
    """Runs every step and prints how long it took."""
    started = time.monotonic()
    make_corpora(ROOT)
    make_labels(ROOT)
    run_steps(steps(), ROOT, processes=2)
    write_report(ROOT)
    merge = sum(seconds_of(ROOT, name) for name in ("predictions", "student"))
    print(f"\ndemo: {time.monotonic() - started:.0f} s in this call; predictions and student took {merge:.0f} s")


def steps() -> list[Step]:
    """Returns all steps, and writes their configurations below `demo/configs`."""
    made = []
    for name, (language, family, model_type) in TEACHERS.items():
        text = str(ROOT / "corpora" / language / "train.txt")
        arguments = (family, str(VOCABULARY_SIZE), str(ROOT / "tokenizers" / name), text)
        made.append(Step(f"tokenizer-{name}", ("-m", "examples.demo.tokenizers", *arguments)))
        values = {"name": name, "language": language, "model_type": model_type}
        for text_name, settings in TEXTS.items():
            config = _fill("teacher-text.yaml", f"{name}-{text_name}", values | settings | {"text": text_name})
            made.append(Step(f"text-{name}-{text_name}", ("-m", "pipeline", config), (f"tokenizer-{name}",)))
        texts = tuple(f"text-{name}-{text_name}" for text_name in TEXTS)
        made.append(Step(name, ("-m", "trainer", _fill("teacher.yaml", name, values)), texts))
        made.append(Step(f"{name}-further", ("-m", "trainer", _fill("teacher-further.yaml", name, values)), (name,)))
    for name, (config, *overrides) in CAPTURES.items():
        made.append(Step(name, ("-m", "pipeline", str(CONFIGS / config), *overrides), tuple(TEACHERS)))
    for name, overrides in STUDENTS.items():
        arguments = ("-m", "trainer", str(CONFIGS / "student.yaml"), f"output={ROOT / name}", *overrides)
        made.append(Step(name, arguments, tuple(CAPTURES)))
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
    # `$schema` is not a placeholder: editors read it.
    target.write_text(Template((CONFIGS / template).read_text()).substitute(values, schema="$schema"))
    return str(target)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; run it again to go on")
