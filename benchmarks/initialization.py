"""`python -m benchmarks.initialization PREDICTIONS HELDOUT`: the steps to a held-out loss, by initialization.

`python -m trainer` trains the same student (a teacher's shape) with the same data order, steps and schedule, from

  random      random weights
  embeddings  all teachers' token rows, the rest random
  encoder     one teacher's encoder, token rows random
  teachers    both
  orthogonal, least_squares, omp
              both, the rows mapped into the encoder's space (student.token_alignment)

The target loss is the lowest of the random student at any evaluation; the step is that of the first evaluation at or below
it. A loss is the held-out negative log-likelihood per masked token in nats, averaged over the languages.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from schemas.predictions import open_predictions
from schemas.tables import format_table

WAYS = {
    "random": {},
    "embeddings": {"embeddings_from_teachers": True},
    "encoder": {"encoder_from": True},
    "teachers": {"embeddings_from_teachers": True, "encoder_from": True},
}
WAYS |= {name: WAYS["teachers"] | {"token_alignment": name} for name in ("orthogonal", "least_squares", "omp")}


def main() -> int:
    """Prints the source of each student's weights, the curves, and a table of steps, in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.initialization", description=__doc__.splitlines()[0])
    parser.add_argument(
        "predictions", help="folder that the pipeline wrote; its teachers must still be in the same places"
    )
    parser.add_argument("heldout", help="another folder that the pipeline wrote, to evaluate on")
    parser.add_argument("--teacher", help="teacher that gives the shape and the encoder (default: the first)")
    parser.add_argument("--settings", default="{}", help="student.settings that override its shape, as YAML")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), help="ways to try besides random (default: all)"
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--evaluate-every", type=int, default=25)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--schedule", default="linear", help="optimizer.lr_scheduler_type")
    parser.add_argument("--warmup-steps", type=int, default=50)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--weight", type=float, default=0.8, help="distillation.kd_weight")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        ways = list(dict.fromkeys(["random", *arguments.ways]))
        curves = {way: _losses(arguments, way, Path(scratch) / way) for way in ways}
    losses = [[f"{step:,}", *(f"{curve[step]:.3f}" for curve in curves.values())] for step in curves["random"]]
    print("\n" + format_table(["step", *ways], losses, "r" * (1 + len(ways)), is_markdown=True))
    goal = min(curves["random"].values())
    first = {way: next((step for step, loss in curve.items() if loss <= goal), None) for way, curve in curves.items()}
    reached = [
        [
            way,
            f"{step:,}" if step else "not reached",
            f"{step / first['random']:.2f}" if step else "",
            f"{curves[way][arguments.steps]:.3f}",
        ]
        for way, step in first.items()
    ]
    head = ["from", f"steps to {goal:.3f} nats", "of random", "last loss"]
    print("\n" + format_table(head, reached, is_markdown=True))
    return 0


def _losses(arguments: argparse.Namespace, way: str, folder: Path) -> dict[int, float]:
    """Trains a student; returns its held-out loss by step."""
    teachers = open_predictions(arguments.predictions).teachers
    teacher = arguments.teacher or next(iter(teachers))
    student = {
        "architecture_from": teachers[teacher].model,
        "revision": teachers[teacher].revision,
        "settings": yaml.safe_load(arguments.settings),
        **WAYS[way],
    }
    if "encoder_from" in student:
        student["encoder_from"] = teacher
    config = {
        "output": str(folder / "student"),
        "predictions": arguments.predictions,
        "heldout": arguments.heldout,
        "student": student,
        "distillation": {"kd_weight": arguments.weight},
        "optimizer": {
            "learning_rate": arguments.learning_rate,
            "warmup_steps": arguments.warmup_steps,
            "lr_scheduler_type": arguments.schedule,
        },
        "max_steps": arguments.steps,
        "batch_tokens": arguments.batch_tokens,
        "seed": arguments.seed,
        "eval_steps": arguments.evaluate_every,
        "save_steps": arguments.steps,
    }
    folder.mkdir()
    (folder / "trainer.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-m", "trainer", str(folder / "trainer.yaml")], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{way}: {done.stderr.strip().splitlines()[-1]}")
    for line in done.stdout.splitlines():
        if line.startswith(("encoder of ", "token rows: ")):
            print(f"{way}: {line}", flush=True)
    lines = map(json.loads, (folder / "student" / "metrics.jsonl").read_text().splitlines())
    return {
        line["step"]: sum(row["nll"] for row in line["heldout"].values()) / len(line["heldout"])
        for line in lines
        if "heldout" in line
    }


if __name__ == "__main__":
    sys.exit(main())
