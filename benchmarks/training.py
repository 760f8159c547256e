"""`python -m benchmarks.training`: the trainer compared with `transformers.Trainer` with dense distillation losses.

The same student, with the same initial weights, takes the same steps over the same made-up predictions. Every way runs in
a separate process:

  ours    the trainer
  dense   `Trainer` with a `compute_loss` that a user would write: it gathers the loss from the log_softmax of the
          model's logits at all positions
  masked  `dense` with log_softmax at the masked positions only; the model still computes logits at all positions

The peers get their batches from the trainer's reader, so only the model's head, the loss and the loop differ (the reader
has its own benchmark). Precision, optimizer, schedule and clipping are the same; none of them evaluates or saves. Memory
is that of the whole process, with weights, gradients and moments. The losses of every step must agree.

Needs `pip install -r benchmarks/requirements.txt`.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

from schemas.tables import format_table

WAYS = ("dense", "masked", "ours")
GOALS = {"tokens/s": 3, "memory": 0.25}
# The number of first steps that do not count, because they allocate memory.
WARM_UP = 3
# For the losses: in bfloat16 the peers round logits, but ours does not.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.01}
RATE, SEED, LAMBDA = 1e-3, 0, 0.5


class _Enough(Exception):
    """Stops the trainer in the step after the last measured one, before it saves and exports."""


class Clock:
    """Records the time and the peak resident set at the end of each step."""

    def __init__(self):
        self.times: list[float] = []
        self.peak = 0

    def tick(self) -> None:
        self.times.append(time.perf_counter())
        self.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def trainer_config(arguments: argparse.Namespace, output: str):
    """Returns the trainer's configuration; the peers take their settings from it."""
    from trainer.config import TrainerConfig

    return TrainerConfig(
        output=output,
        predictions=arguments.predictions,
        student={
            "settings": {
                "model_type": "bert",
                "hidden_size": arguments.hidden,
                "num_hidden_layers": arguments.layers,
                "num_attention_heads": arguments.hidden // 64,
                "intermediate_size": 4 * arguments.hidden,
                # With dropout, the losses of the same step would differ.
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
            }
        },
        distillation={"kd_weight": LAMBDA},
        optimizer={"learning_rate": RATE},
        max_steps=arguments.steps + 1,
        batch_tokens=arguments.batch_tokens,
        precision=arguments.dtype,
        seed=SEED,
        logging_steps=1,
    )


def steps_of(config) -> Iterator:
    """Yields the micro-batches of the trainer's steps."""
    from schemas.predictions import open_predictions
    from trainer.data.reader import Reader

    reader = Reader(open_predictions(*config.predictions), config.sampling, config.batch_tokens, config.seed)
    return (batch for (batch,) in reader)


def ours(arguments: argparse.Namespace, scratch: str, clock: Clock) -> list[float]:
    """Runs the trainer; returns the losses of its steps."""
    from trainer.distributed import start_runtime
    from trainer.loop import step
    from trainer.loop.train import train

    apply_gradients = step.apply_gradients

    def timed(*args):
        if len(clock.times) == arguments.steps:
            raise _Enough
        result = apply_gradients(*args)
        clock.tick()
        return result

    step.apply_gradients = timed
    config = trainer_config(arguments, scratch)
    with suppress(_Enough):
        train(config, start_runtime(config.precision))
    with open(f"{scratch}/metrics.jsonl") as lines:
        figures = [line["train"]["l0"] for line in map(json.loads, lines)]
    return [LAMBDA * row["kd"] + (1 - LAMBDA) * row["mlm"] for row in figures]


def peer(arguments: argparse.Namespace, scratch: str, clock: Clock) -> list[float]:
    """Runs `transformers.Trainer`; returns the losses of its steps."""
    import torch
    from torch.nn import functional
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from schemas.predictions import open_predictions
    from trainer.student.model import build_student, student_config

    config = trainer_config(arguments, scratch)
    predictions = open_predictions(*config.predictions)
    losses = []

    class Batches(torch.utils.data.IterableDataset):
        def __iter__(self):
            for batch in steps_of(config):
                shape = batch.input_ids_BL.shape

                def at_masked(filler: int, values: torch.Tensor, shape=shape, batch=batch) -> torch.Tensor:
                    whole = torch.full((shape.numel(), *values.shape[1:]), filler, dtype=values.dtype)
                    whole[batch.rows_M] = values
                    return whole.view(*shape, *values.shape[1:])

                yield {
                    "input_ids": batch.input_ids_BL.long(),
                    "attention_mask": batch.attention_mask_BL.long(),
                    "labels": at_masked(-100, batch.labels_M.long()),
                    "topk_ids": at_masked(0, batch.topk_ids_MK.long()),
                    "topk_logprobs": at_masked(0, batch.topk_logprobs_MK.float()),
                }

    class DistillationTrainer(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
            masked = inputs["labels"] != -100
            if arguments.way == "dense":
                student = logits.float().log_softmax(-1)[masked]
            else:
                student = logits[masked].float().log_softmax(-1)
            mlm = functional.nll_loss(student, inputs["labels"][masked])
            top, teacher = student.gather(1, inputs["topk_ids"][masked]), inputs["topk_logprobs"][masked]
            rest = torch.log1p(-teacher.exp().sum(-1).clamp(max=1 - 1e-6))
            student_rest = torch.log1p(-top.exp().sum(-1).clamp(max=1 - 1e-6))
            kd = (teacher.exp() * (teacher - top)).sum(-1) + rest.exp() * (rest - student_rest)
            loss = LAMBDA * kd.mean() + (1 - LAMBDA) * mlm
            losses.append(loss.item())
            return loss

    class Ticks(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            clock.tick()

    optimizer = config.optimizer
    DistillationTrainer(
        build_student(student_config(config.student, predictions.vocabulary, predictions.max_length), SEED),
        TrainingArguments(
            scratch,
            max_steps=config.max_steps,
            per_device_train_batch_size=1,
            learning_rate=RATE,
            lr_scheduler_type=optimizer.lr_scheduler_type,
            weight_decay=optimizer.weight_decay,
            adam_beta1=optimizer.betas[0],
            adam_beta2=optimizer.betas[1],
            max_grad_norm=optimizer.max_grad_norm,
            optim="adamw_torch_fused",
            bf16=arguments.dtype == "bfloat16",
            use_cpu=not torch.cuda.is_available(),
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Batches(),
        data_collator=lambda batches: batches[0],
        callbacks=[Ticks()],
    ).train()
    return losses


def measure(arguments: argparse.Namespace) -> dict:
    """Returns tokens per second after the warm-up, the process's peak memory in bytes, and each step's loss."""
    from itertools import islice

    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        losses = (ours if arguments.way == "ours" else peer)(arguments, scratch, clock)
        config = trainer_config(arguments, scratch)
    tokens = [batch.tokens for batch in islice(steps_of(config), WARM_UP, arguments.steps)]
    return {
        "rate": sum(tokens) / (clock.times[arguments.steps - 1] - clock.times[WARM_UP - 1]),
        "peak": clock.peak,
        "losses": losses[: arguments.steps],
    }


def main() -> int:
    """Prints a table; `--way` is for the processes that it starts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=250_000, help="merged tokens, V")
    parser.add_argument("--hidden", type=int, default=256, help="width of the student, H")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch-tokens", type=int, default=4096, help="most tokens, with padding, in a step")
    parser.add_argument("--steps", type=int, default=10, help=f"steps to run; the first {WARM_UP} are not timed")
    parser.add_argument("--dtype", choices=sorted(TOLERANCE), default=None, help="default: all, one after the other")
    parser.add_argument("--predictions", help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(arguments)))
        return 0
    from benchmarks.made_up import make_predictions

    print(
        f"V {arguments.vocabulary:,}  H {arguments.hidden}  {arguments.layers} layers  {arguments.batch_tokens} tokens"
    )
    table, faults = [], []
    with tempfile.TemporaryDirectory() as folder:
        make_predictions(folder, arguments.vocabulary, 20_000, 1)
        for dtype in [arguments.dtype] if arguments.dtype else sorted(TOLERANCE):
            rows = {}
            for way in reversed(WAYS):
                options = [*sys.argv[1:], "--dtype", dtype, "--predictions", folder, "--way", way]
                command = [sys.executable, "-m", "benchmarks.training", *options]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    print(f"{way}, {dtype} did not run: {done.stderr.strip().splitlines()[-1]}")
                    continue
                row = rows[way] = json.loads(done.stdout.splitlines()[-1])
                faster, leaner = rows["ours"]["rate"] / row["rate"], rows["ours"]["peak"] / row["peak"]
                table.append(
                    [
                        f"{way}, {dtype}",
                        f"{row['rate']:,.0f}",
                        f"{faster:.2f}x",
                        f"{row['peak'] / 2**30:.2f}",
                        f"{leaner:.2f}",
                        f"{row['losses'][-1]:.4f}",
                    ]
                )
                pairs = zip(row["losses"], rows["ours"]["losses"], strict=True)
                worst = max(abs(theirs - our) / our for theirs, our in pairs)
                if worst > TOLERANCE[dtype]:
                    faults.append(
                        f"{way}, {dtype} does not compute the same: the loss of a step differs by {worst:.2%}"
                    )
    print(format_table(["", "tokens/s", "ours is", "peak GiB", "ours is", "last loss"], table))
    print("".join(f"{fault}\n" for fault in faults), end="")
    print(f"goals compared with `dense`: {GOALS['tokens/s']}x the tokens/s, at most {GOALS['memory']} of the memory")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
