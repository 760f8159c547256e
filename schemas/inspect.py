"""Folders of predictions as people read them: a summary of all rows, or one row as text.

Legend: M masked positions, K top-k.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields

import numpy as np

from schemas.errors import UserError, printable
from schemas.manifest import PredictionFile, Predictions
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
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


@dataclass
class Figures:
    """What is known of some rows; adds up.

    Attributes:
      rows, tokens, masked: the rows, their tokens and their masked positions.
      records, used, rejected: records of text read, those in rows, and the others by reason.
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
        return Figures(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Figures)))


def measure(predictions: Predictions, language: str | None = None) -> dict[tuple[str, str], Figures]:
    """Figures by (language, teacher), in the manifests' order.

    Holds one row group at a time. With top_k 0
    `agreed` and `logprob` stay 0.

    Raises:
      UserError: an unknown `language`, or a file that is truncated or from another run.
    """
    found: dict[tuple[str, str], Figures] = {}
    for manifest in predictions.manifests:
        for record in manifest.languages:
            key = (record.language, record.teacher)
            figures = Figures(records=record.records, used=record.used, rejected=Counter(record.rejected))
            found[key] = found.get(key, Figures()) + figures
    for file in _files(predictions, language):
        key = (file.record.language, file.record.teacher)
        found[key] = found.get(key, Figures()) + _measure_file(file)
    return {key: figures for key, figures in found.items() if language in (None, key[0])}


def summarize(predictions: Predictions, language: str | None = None) -> str:
    """The summary as lines. Raises UserError as `measure` does."""
    found = measure(predictions, language)
    lines = [
        without_secrets(", ".join(predictions.folders)),
        f"{len(predictions.vocabulary):,} merged tokens, top_k {predictions.top_k}, "
        f"at most {predictions.max_length} tokens a row",
    ]
    teachers = {name: record for manifest in predictions.manifests for name, record in manifest.teachers.items()}
    for name, record in teachers.items():
        lines.append(
            f"teacher {name}: {printable(record.model)} ({printable(record.family)}, {record.vocabulary_size:,} tokens)"
        )
    rows = [[*key, *_cells(figures, predictions.top_k)] for key, figures in found.items()]
    if len(found) > 1:
        rows.append(["total", "", *_cells(sum(found.values(), Figures()), predictions.top_k)])
    return "\n".join([*lines, "", format_table(_HEAD, rows, "llrrrrrrrrrl")])


def inspect_row(predictions: Predictions, number: int, language: str | None = None) -> str:
    """One row as lines: its text, and each masked position with the teacher's predictions.

    Of all files it reads one row group.

    Args:
      number: counted from 0 in the order of the manifests' files, of `language` alone where given.

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
    for place in range(len(row["labels"])):
        lines += ["", *_describe(predictions.vocabulary, row, place, file.top_k)]
    return "\n".join(lines)


def surface(role: str, token: str) -> bytes:
    """The bytes of running text that a token stands for; special and literal tokens as they are written."""
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
    """The file and row group that hold row `number`, and its place there."""
    for file in files:
        for group, rows in enumerate(file.record.row_groups):
            if number < rows:
                return file, group, number
            number -= rows
    raise AssertionError("the caller checks the number")


def _measure_file(file: PredictionFile) -> Figures:
    record = file.record
    found = Figures(record.rows, record.tokens, record.masked_positions, bytes=record.size)
    # All columns, since a summary is of what was checked.
    for table in read_row_groups(file):
        if file.top_k:
            labels_M, logprobs_M, ids = (flatten(table[name])[0] for name in ("labels", "label_logprobs", "topk_ids"))
            found.agreed += int((ids.reshape(-1, file.top_k)[:, 0] == labels_M).sum())
            found.logprob += float(logprobs_M.sum(dtype=np.float64))
    return found


def _cells(figures: Figures, top_k: int) -> list[str]:
    """One line of the summary's table, from the rows on."""
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

    A marker shows the token that stands there as the vocabulary writes it; the space
    before it is the original's. Bytes are decoded where they make whole characters.
    """
    places = {position: place for place, position in enumerate(row["masked_positions"])}
    pieces, run = [], b""
    for position, token in enumerate(row["input_ids"]):
        if position not in places:
            run += surface(vocabulary.roles[token], vocabulary.tokens[token])
            continue
        place = places[position]
        if vocabulary.roles[row["labels"][place]] == WORD:
            run += b" "
        pieces += [_decoded(run), f"[{place + 1}:{_shown(vocabulary, token)}]"]
        run = b""
    return "".join([*pieces, _decoded(run)])


def _describe(vocabulary: Vocabulary, row: dict, place: int, top_k: int) -> Iterator[str]:
    """Lines on the masked position that is number `place`, from 0, of its row."""
    position, label = row["masked_positions"][place], row["labels"][place]
    standing = row["input_ids"][position]
    if standing == label:
        fate = "kept"
    elif vocabulary.roles[standing] == "mask":
        fate = "masked"
    else:
        fate = f"replaced by {_shown(vocabulary, standing)}"
    yield f"[{place + 1}] position {position}: gold {_shown(vocabulary, label)}, {fate}"
    if not top_k:
        return
    logprob = row["label_logprobs"][place]
    yield f"    log-probability {logprob:.3f}, probability {np.exp(logprob):.2%}"
    its = slice(place * top_k, (place + 1) * top_k)
    probabilities = np.exp(np.array(row["topk_logprobs"][its], np.float64))
    guesses = [
        f"{_shown(vocabulary, token)} {probability:.2%}" if token >= 0 else "(trimmed away)"
        for token, probability in zip(row["topk_ids"][its], probabilities, strict=True)
    ]
    # float16 may round the sum to just over 1.
    yield f"    {'  '.join(guesses)}  tail {max(0.0, 1 - probabilities.sum()):.2%}"


def _shown(vocabulary: Vocabulary, token: int) -> str:
    return printable(vocabulary.tokens[token])


def _decoded(run: bytes) -> str:
    text = run.decode(errors="surrogateescape")
    return printable(_ESCAPED_BYTE.sub(lambda byte: f"<0x{ord(byte[0]) - 0xDC00:02X}>", text))
