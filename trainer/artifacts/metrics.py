"""Training metrics: JSON lines, TensorBoard, and the progress line."""

import json
import resource
import secrets
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from schemas.errors import UserError, first_line
from schemas.secrets import without_secrets
from schemas.storage import write_bytes
from trainer.artifacts.scores import LanguageScores, scores_from_json, scores_to_json
from trainer.config import TrainerConfig
from trainer.data.batches import Batch
from trainer.distributed import Runtime
from trainer.loss.sparse import Losses

METRICS_FILE = "metrics.jsonl"
# Means over masked positions (`trainer.loss.sparse.Losses`).
_BY_LANGUAGE = ("mlm", "kd", "kl", "accuracy", "teacher_agreement")
# Seconds between progress lines. A log file keeps all of them, so it gets fewer.
_SECONDS_ON_A_TERMINAL, _SECONDS_IN_A_LOG = 0.1, 10
# The most languages in a progress line; if there are more, how many of those with the highest loss are named.
_MOST_SHOWN, _WORST = 10, 5


class Metrics:
    """Sums on the device and reads back only at log steps, so that training never waits.

    `metrics.jsonl` has one line for each log step, {"step", "train": {language: {mlm, kd, kl, accuracy,
    teacher_agreement}}, "learning_rate", ...}, with only mlm and accuracy if lambda is always 0; and one line for each
    evaluation, {"step", "heldout": ..., "heldout_sha256"}. TensorBoard's `logs/` and, if configured, Weights & Biases
    have the same figures. A resumed run drops the lines after its checkpoint.
    """

    def __init__(self, config: TrainerConfig, languages: list[str], start: int, runtime: Runtime):
        output = Path(config.output)
        self._runtime = runtime
        self._languages = languages
        # Without distillation there are no figures about a teacher.
        self._shown = _BY_LANGUAGE if config.distillation.distils else ("mlm", "accuracy")
        # float64: positions are added one by one, and a float32 sum of ones stops growing at 2^24.
        self._sums = torch.zeros(len(languages), 1 + len(_BY_LANGUAGE), dtype=torch.float64, device=runtime.device)
        self._tokens = 0
        self._waited = 0.0
        self._since = time.monotonic()
        self._outputs = _Outputs(config, start) if runtime.is_main else None
        self._bar = tqdm(
            total=config.max_steps,
            initial=start,
            desc=output.name,
            unit="step",
            disable=not runtime.is_main,
            mininterval=_SECONDS_ON_A_TERMINAL if sys.stderr.isatty() else _SECONDS_IN_A_LOG,
        )

    def add(self, batch: Batch, losses: Losses) -> None:
        """Counts one micro-batch, except positions whose loss is not finite."""
        columns = (losses.mlm_M, losses.kd_M, losses.kl_M, losses.correct_M, losses.agrees_M)
        columns_MS = torch.stack([torch.ones_like(losses.mlm_M), *columns], 1).double()
        columns_MS.masked_fill_(~torch.isfinite(columns_MS).all(1, keepdim=True), 0)
        self._sums.index_add_(0, batch.language_M.to(self._sums.device), columns_MS)
        self._tokens += batch.tokens

    def waited(self, seconds: float) -> None:
        """Counts time spent waiting for data."""
        self._waited += seconds

    def step(self) -> None:
        """Moves the progress bar."""
        self._bar.update()

    def log(
        self, step: int, learning_rate: float, kd_weights: torch.Tensor, skipped: int, of_stage: dict[str, float]
    ) -> None:
        """Writes and shows the means since the last call, over all processes.

        Args:
          of_stage: additional figures about the step's stage.
        """
        sums = self._runtime.all_reduce(self._sums)
        now = time.monotonic()
        seconds = now - self._since
        tokens, waited, memory = self._runtime.all_reduce(
            torch.tensor([self._tokens, self._waited / seconds, self._peak_memory()], dtype=torch.float64)
        ).tolist()
        self._sums.zero_()
        self._since, self._tokens, self._waited = now, 0, 0.0
        if self._outputs is None:
            return
        train = {
            language: {
                name: value / positions for name, value in zip(_BY_LANGUAGE, values, strict=True) if name in self._shown
            }
            for language, (positions, *values) in zip(self._languages, sums.tolist(), strict=True)
            if positions
        }
        figures = {
            "learning_rate": learning_rate,
            **of_stage,
            "tokens_per_second": tokens / seconds,
            "waiting_for_data": waited / self._runtime.world_size,
            "peak_memory_gib": memory / 2**30,
            "skipped_steps": skipped,
        }
        by_language = dict(zip(self._languages, kd_weights.tolist(), strict=True))
        self._outputs.write({"step": step, "train": train, "kd_weight": by_language, **figures})
        scalars = {f"{name}/{language}": value for language, row in train.items() for name, value in row.items()}
        self._outputs.draw(step, figures | scalars | {f"kd_weight/{name}": by_language[name] for name in train})
        self._bar.set_postfix_str(f"{summary(train)}, {tokens / seconds / 1000:.1f}k tokens/s", refresh=False)

    def log_evaluation(self, step: int, heldout_sha256: str, scores: dict[str, LanguageScores], seconds: float) -> None:
        """Writes an evaluation's scores; its `seconds` do not count as training time."""
        self._since += seconds
        if self._outputs is None:
            return
        heldout = scores_to_json(scores)
        self._outputs.write({"step": step, "heldout": heldout, "heldout_sha256": heldout_sha256})
        figures = {f"heldout_{name}/{language}": v for language, row in heldout.items() for name, v in row.items()}
        self._outputs.draw(step, {name: value for name, value in figures.items() if value is not None})

    def close(self) -> None:
        """Closes the progress bar and the logs."""
        self._bar.close()
        if self._outputs:
            self._outputs.close()

    def _peak_memory(self) -> int:
        """Peak memory in bytes, of the GPU if there is one, else of the process."""
        if self._runtime.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def summary(train: dict[str, dict[str, float]]) -> str:
    """The losses (MLM, and KD if there is one) of each language; for many languages, the means and the worst ones."""

    def losses(name: str, rows: list[dict[str, float]]) -> str:
        means = [sum(row[key] for row in rows) / len(rows) for key in ("mlm", "kd") if key in rows[0]]
        return f"{name} {'/'.join(f'{loss:.2f}' for loss in means)}"

    if len(train) <= _MOST_SHOWN:
        return ", ".join(losses(name, [row]) for name, row in train.items())
    worst = sorted(train, key=lambda name: -train[name]["mlm"])[:_WORST]
    return f"{losses(f'{len(train)} languages', list(train.values()))}, worst " + ", ".join(
        losses(name, [train[name]]) for name in worst
    )


class _Outputs:
    """The main process's outputs for figures after step `start`."""

    def __init__(self, config: TrainerConfig, start: int):
        output = Path(config.output)
        self._board = SummaryWriter(str(output / "logs"), purge_step=start + 1)
        self._lines = _reopen(output / METRICS_FILE, start)
        self._wandb = _start_wandb(config) if config.wandb_project else None

    def write(self, line: dict) -> None:
        """Adds a line to `metrics.jsonl`."""
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()

    def draw(self, step: int, scalars: dict[str, float]) -> None:
        """Adds a point to each curve."""
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(scalars, step=step)

    def close(self) -> None:
        """Closes the logs."""
        self._board.close()
        self._lines.close()
        if self._wandb:
            self._wandb.finish()


def _start_wandb(config: TrainerConfig) -> Any:
    """Starts the Weights & Biases run, or resumes the same one. Raises UserError if wandb cannot be used."""
    try:
        import wandb
    except ImportError:
        raise UserError(
            "wandb_project: the package wandb is not installed; run `pip install '.[wandb]'`, or leave it out"
        ) from None
    # The id is in the output folder, so that a new output folder is a new run.
    path = Path(config.output) / "logs" / "wandb_run"
    if not path.exists():
        path.write_text(secrets.token_hex(4))
    try:
        return wandb.init(
            project=config.wandb_project,
            name=Path(config.output).name,
            id=path.read_text(),
            resume="allow",
            dir=str(path.parent),
            config=json.loads(without_secrets(config.model_dump_json())),
        )
    except wandb.Error as error:
        raise UserError(
            f"wandb_project: wandb cannot start ({first_line(error)}); log in, or set WANDB_MODE=offline"
        ) from None


def heldout_scores(output: str, step: int, heldout_sha256: str | None) -> dict[str, LanguageScores]:
    """Returns the scores logged after a step on these held-out predictions; empty if there are none."""
    logged: dict[str, dict] = {}
    for line in read_metrics(Path(output) / METRICS_FILE):
        if line["step"] == step and "heldout" in line and line["heldout_sha256"] == heldout_sha256:
            logged = line["heldout"]
    return scores_from_json(logged)


def _reopen(path: Path, start: int) -> TextIO:
    """Drops the file's lines after step `start` and opens it to append."""
    kept = [json.dumps(line) + "\n" for line in read_metrics(path) if line["step"] <= start]
    # Written atomically, so that a kill does not lose existing lines.
    write_bytes(str(path), "".join(kept).encode())
    return path.open("a")


def read_metrics(path: Path) -> list[dict]:
    """Returns the lines of `metrics.jsonl`, without those that a kill cut short; none if there is no file."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines
