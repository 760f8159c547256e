"""Human-readable views of prediction folders: a summary of all rows, or one row as text.

Legend: M masked positions, K top-k, S tail samples.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields

import numpy as np

from schemas.errors import UserError, printable
from schemas.predictions import PredictionFile, Predictions
from schemas.ragged import flatten
from schemas.row_groups import RowGroupReader, read_row_groups
from schemas.secrets import without_secrets
from schemas.tables import format_table
from schemas.vocabulary import CONTINUATION, WORD, Vocabulary

_HEAD = (
    *("language", "teacher", "rows", "records", "used", "rejected", "tokens", "masked"),
    *("bytes/masked", "top-1", "log p(label)", "reasons"),
)
_BYTES = re.compile(r"(▁?)((?:<0x[0-9A-F]{2}>)+)")
_TRIMMED = "(trimmed away)"
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


@dataclass
class Figures:
    """Counts and sums over some rows. Two `Figures` can be added.

    Attributes:
      rows, tokens, masked: the rows, their tokens and their masked positions.
      records, used, rejected: text records that were read, those of them that are in rows, and the others by reason.
      bytes: size of the Parquet files.
      agreed: masked positions where the first prediction is the label.
      logprob: sum of the labels' log-probabilities, in nats.
    """

    rows: int = 0
    tokens: int = 0
    masked: int = 0
    records: int = 0
    used: int = 0
    rejected: Counter = field(default_factory=Counter)
    bytes: int = 0
    agreed: int = 0
    logprob: float = 0.0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Figures)))


def measure(predictions: Predictions, language: str | None = None) -> dict[tuple[str, str], Figures]:
    """Returns the figures by (language, teacher), in the manifests' order.

    Holds one row group at a time. With top_k 0, `agreed` and `logprob` stay 0.

    Raises:
      UserError: an unknown `language`, or a file that is truncated or from another run.
    """
    figures_of: dict[tuple[str, str], Figures] = {}
    for manifest in predictions.manifests:
        for record in manifest.languages:
            key = (record.language, record.teacher)
            figures = Figures(records=record.records, used=record.used, rejected=Counter(record.rejected))
            figures_of[key] = figures_of.get(key, Figures()) + figures
    for file in _files(predictions, language):
        key = (file.record.language, file.record.teacher)
        figures_of[key] = figures_of.get(key, Figures()) + _measure_file(file)
    return {key: figures for key, figures in figures_of.items() if language in (None, key[0])}


def summarize(predictions: Predictions, language: str | None = None) -> str:
    """Returns the summary as lines. Raises UserError like `measure`."""
    figures_of = measure(predictions, language)
    # Folders that are read together may have different numbers of samples.
    tail_samples = sorted({manifest.tail_samples for manifest in predictions.manifests})
    sampled = f"tail_samples {' or '.join(map(str, tail_samples))}, " if any(tail_samples) else ""
    lines = [
        without_secrets(", ".join(predictions.folders)),
        f"{len(predictions.vocabulary):,} merged tokens, top_k {predictions.top_k}, {sampled}"
        f"at most {predictions.max_length} tokens per row",
    ]
    teachers = {name: record for manifest in predictions.manifests for name, record in manifest.teachers.items()}
    for name, record in teachers.items():
        models = [record.model, *(f"{part.model} by {part.weight:g}" for part in record.mixed_with)]
        lines.append(
            f"teacher {name}: {printable(' with '.join(models))} ({printable(record.family)}, "
            f"{record.vocabulary_size:,} tokens)"
        )
    rows = [[*key, *_cells(figures, predictions.top_k)] for key, figures in figures_of.items()]
    if len(figures_of) > 1:
        rows.append(["total", "", *_cells(sum(figures_of.values(), Figures()), predictions.top_k)])
    return "\n".join([*lines, "", format_table(_HEAD, rows, "llrrrrrrrrrl")])


def inspect_row(predictions: Predictions, number: int, language: str | None = None) -> str:
    """Returns one row as lines: its text, and each masked position with the teacher's predictions.

    Reads one row group of one file.

    Args:
      number: counted from 0 in the order of the manifests' files; if `language` is given, only its rows count.

    Raises:
      UserError: no such row or `language`, or a file that is truncated or from another run.
    """
    files = _files(predictions, language)
    total = sum(sum(file.record.row_groups) for file in files)
    whose = f"{without_secrets(', '.join(predictions.folders))}" + (f" ({language})" if language else "")
    if not 0 <= number < total:
        numbered = f", numbered 0 to {total - 1}" if total else ""
        raise UserError(f"--row {number}: {whose} has {total} row{'s' * (total != 1)}{numbered}")
    file, group, offset = _locate(files, number)
    (row,) = RowGroupReader().read(file, group).slice(offset, 1).to_pylist()
    lines = [
        f"row {number:,} of {total:,} in {whose}",
        f"example {printable(row['example_id'])}, teacher {row['teacher']}",
        f"{len(row['input_ids'])} tokens, {len(row['labels'])} masked positions",
        "",
        _text(predictions.vocabulary, row),
    ]
    for masked_number in range(len(row["labels"])):
        lines += ["", *_describe(predictions.vocabulary, row, masked_number, file)]
    return "\n".join(lines)


def surface(role: str, token: str) -> bytes:
    """The bytes of running text that a token stands for. Special and literal tokens stand for their own spelling."""
    if role not in (WORD, CONTINUATION):
        return token.encode()
    if match := _BYTES.fullmatch(token):
        return match[1].replace("▁", " ").encode() + bytes.fromhex(re.sub("<0x|>", "", match[2]))
    return token.replace("▁", " ").encode()


def _files(predictions: Predictions, language: str | None) -> list[PredictionFile]:
    known = sorted({record.language for manifest in predictions.manifests for record in manifest.languages})
    if language is not None and language not in known:
        raise UserError(
            f"--language {language}: not in {without_secrets(', '.join(predictions.folders))}, which has {', '.join(known) or 'none'}"
        )
    return [file for file in predictions.files if language in (None, file.record.language)]


def _locate(files: Iterable[PredictionFile], number: int) -> tuple[PredictionFile, int, int]:
    """The file and row group that hold row `number`, and its index in that row group."""
    for file in files:
        for group, rows in enumerate(file.record.row_groups):
            if number < rows:
                return file, group, number
            number -= rows
    raise AssertionError("the caller checks the number")


def _measure_file(file: PredictionFile) -> Figures:
    record = file.record
    figures = Figures(record.rows, record.tokens, record.masked_positions, bytes=record.size)
    # Read all columns, so that everything in the summary is checked.
    for table in read_row_groups(file):
        if file.top_k:
            labels_M, logprobs_M, ids = (flatten(table[name])[0] for name in ("labels", "label_logprobs", "topk_ids"))
            figures.agreed += int((ids.reshape(-1, file.top_k)[:, 0] == labels_M).sum())
            figures.logprob += float(logprobs_M.sum(dtype=np.float64))
    return figures


def _cells(figures: Figures, top_k: int) -> list[str]:
    """One line of the summary's table, from the column `rows` on."""
    masked = figures.masked
    counts = (figures.rows, figures.records, figures.used, figures.rejected.total(), figures.tokens, masked)
    return [
        *(f"{count:,}" for count in counts),
        f"{figures.bytes / masked:.1f}" if masked else "-",
        f"{figures.agreed / masked:.1%}" if masked and top_k else "-",
        f"{figures.logprob / masked:.3f}" if masked and top_k else "-",
        "; ".join(f"{printable(reason)}: {count:,}" for reason, count in figures.rejected.most_common()),
    ]


def _text(vocabulary: Vocabulary, row: dict) -> str:
    """The row as running text with a numbered marker for each masked position: `The [1:<mask>] sat`.

    A marker shows the token at that position as the vocabulary writes it; the space before it comes from the original
    text. Bytes are decoded if they form whole characters.
    """
    masked_number = {position: number for number, position in enumerate(row["masked_positions"])}
    pieces, run = [], b""
    for position, token in enumerate(row["input_ids"]):
        if position not in masked_number:
            run += surface(vocabulary.roles[token], vocabulary.tokens[token])
            continue
        number = masked_number[position]
        if vocabulary.roles[row["labels"][number]] == WORD:
            run += b" "
        pieces += [_decoded(run), f"[{number + 1}:{_shown(vocabulary, token)}]"]
        run = b""
    return "".join([*pieces, _decoded(run)])


def _describe(vocabulary: Vocabulary, row: dict, number: int, file: PredictionFile) -> Iterator[str]:
    """Yields lines about one masked position of a row; `number` is its index from 0."""
    position, label = row["masked_positions"][number], row["labels"][number]
    present = row["input_ids"][position]
    if present == label:
        fate = "kept"
    elif vocabulary.roles[present] == "mask":
        fate = "masked"
    else:
        fate = f"replaced by {_shown(vocabulary, present)}"
    yield f"[{number + 1}] position {position}: gold {_shown(vocabulary, label)}, {fate}"
    if not file.top_k:
        return
    logprob = row["label_logprobs"][number]
    yield f"    log-probability {logprob:.3f}, probability {np.exp(logprob):.2%}"
    predictions = slice(number * file.top_k, (number + 1) * file.top_k)
    probabilities = np.exp(np.array(row["topk_logprobs"][predictions], np.float64))
    guesses = [
        f"{_shown(vocabulary, token)} {probability:.2%}" if token >= 0 else _TRIMMED
        for token, probability in zip(row["topk_ids"][predictions], probabilities, strict=True)
    ]
    # float16 may round the sum to just over 1.
    yield f"    {'  '.join(guesses)}  tail {max(0.0, 1 - probabilities.sum()):.2%}"
    if samples := file.tail_samples:
        times = Counter(row["tail_ids"][number * samples : (number + 1) * samples])
        shown = ((_shown(vocabulary, token) if token >= 0 else _TRIMMED, count) for token, count in times.items())
        yield f"    tail samples: {'  '.join(f'{text} x{count}' if count > 1 else text for text, count in shown)}"


def _shown(vocabulary: Vocabulary, token: int) -> str:
    return printable(vocabulary.tokens[token])


def _decoded(run: bytes) -> str:
    text = run.decode(errors="surrogateescape")
    return printable(_ESCAPED_BYTE.sub(lambda byte: f"<0x{ord(byte[0]) - 0xDC00:02X}>", text))
