"""`python -m benchmarks.gpu`: capture and training on a GPU, compared with plain transformers, Liger and cut-cross-entropy.

Everything is measured in one process, so that the figures are comparable: a BERT-base with random weights, in bfloat16.

  peak      the best rate of a product of two large matrices. Shares of the peak refer to this.
  capture   a teacher's top-k at the masked positions of rows of different length. "bare model": encoder and head over
            tensors that are already on the device, sorted by length, with the result dropped.
  training  steps of a student over one batch. All ways are rated by the number of operations of ours.

"waiting" is the share of the time in which the device is idle. `--small` checks within a minute, also on a CPU, that it
works. Needs `pip install -r benchmarks/requirements.txt`.
"""

import argparse

import torch

from benchmarks.gpu import capture, training
from benchmarks.gpu.device import Figures, measure, peak
from schemas.tables import format_table

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
# Goals are shares of the peak or of the bare model's rate, and the loss's share of a step.
GOALS = "goals: capture and training each 45% of the peak, capture else 90% of the bare model's rate; loss under 25% of a step"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--small",
        action="store_true",
        help="small models and little text, to test the program; the speed means nothing",
    )
    parser.add_argument("--teacher-vocabulary", type=int, default=119_547)
    parser.add_argument("--vocabulary", type=int, default=250_000, help="the student's merged tokens, V")
    parser.add_argument("--tokens", type=int, default=2_000_000, help="how many tokens the teacher reads")
    parser.add_argument(
        "--batch-tokens", type=int, default=32_768, help="tokens in a step of the student, with padding"
    )
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    shape = BASE
    if options.small:
        shape = SMALL
        options.teacher_vocabulary, options.vocabulary, options.tokens, options.batch_tokens = 1000, 2000, 20_000, 1024
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU (this shows only that the program works)"
    )
    best = peak(device, 512 if options.small else 8192)
    print(f"{name}, torch {torch.__version__}: bfloat16 matrix products at {best / 1e12:.3g} TFLOP/s\n")

    text = capture.Text(options.tokens, options.teacher_vocabulary)
    captures = capture.ways(text, shape | {"vocab_size": options.teacher_vocabulary}, device)
    figures = _measure(captures, "bare model", device, options.repeats)
    print(f"capture: {len(text.input_ids):,} tokens in {len(text.lengths):,} rows, V {options.teacher_vocabulary:,}")
    print(_table(figures, len(text.input_ids), best), "\n")

    steps, tokens = training.ways(options.vocabulary, shape, options.batch_tokens, device)
    figures = _measure(steps, "ours", device, options.repeats)
    print(f"training: steps of {tokens:,} tokens, V {options.vocabulary:,}")
    print(_table(figures, tokens, best))
    loss = 1 - figures["encoder alone"].seconds / figures["ours"].seconds
    print(f"\nthe loss takes {loss:.0%} of our step, not compiled\n{GOALS}")


def _measure(ways: dict, counted: str, device: torch.device, repeats: int) -> dict[str, Figures]:
    """Returns the figures of all ways that run here; operations are counted only in the way `counted`."""
    figures = {counted: measure(ways[counted], device, repeats)}
    for name, call in ways.items():
        if name == counted:
            continue
        try:
            figures[name] = measure(call, device, repeats, figures[counted].operations)
        except Exception as error:  # A peer may not be installed, not support this device, or not fit into its memory.
            print(f"{name} did not run: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return {name: figures[name] for name in ways if name in figures}


def _table(figures: dict[str, Figures], tokens: int, best: float) -> str:
    ours = figures["ours"]
    rows = [
        [
            name,
            f"{tokens / of_way.seconds:,.0f}",
            f"{of_way.seconds / ours.seconds:.2f}x",
            f"{of_way.operations / of_way.seconds / best:.1%}",
            "-" if of_way.waiting is None else f"{of_way.waiting:.1%}",
            "-" if of_way.gib is None else f"{of_way.gib:.1f}",
        ]
        for name, of_way in figures.items()
    ]
    return format_table(["", "tokens/s", "ours is", "of the peak", "waiting", "GiB"], rows)


if __name__ == "__main__":
    main()
