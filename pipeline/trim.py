"""`python -m pipeline.trim FOLDER --output FOLDER`: leave out the tokens that the corpora do not use.

A merged vocabulary holds every token of every teacher, but text in a few languages uses
only some of them, and each costs the student a row of its embedding. Kept are the tokens
that the corpora emit or that a teacher predicts for them, and what BPE needs to build
those. The result is a folder of predictions like any other, in the smaller id space.
No teacher runs again.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from pipeline.deploy import deploy_tokenizers, deployed_tokenizers
from pipeline.identity import byte_alphabet
from pipeline.remap_tokenizer import remap_tokenizer
from pipeline.shards import write_rows
from pipeline.words import WORDS_FILE, read_words
from schemas.errors import UserError, exit_code_of
from schemas.manifest import (
    Manifest,
    PredictionFile,
    Predictions,
    VocabularyRecord,
    open_predictions,
    read_footer,
    write_manifest,
)
from schemas.ragged import flatten
from schemas.rows import RECEIPT_KEY, ROW_SCHEMA, check_footer, footer
from schemas.storage import filesystem, join, list_files, write_bytes
from schemas.vocabulary import SPECIAL_ROLES, VOCABULARY_FILE, Vocabulary, read_vocabulary, write_vocabulary

Result = TypeVar("Result")
# Files read or written at once.
_THREADS = 4


@dataclass(frozen=True)
class Usage:
    """How often the corpora use each of V merged tokens: int64 [V] each.

    Attributes:
      emitted: in the text as the teachers segment it, before masking.
      predicted: among the top-k.
    """

    emitted: np.ndarray
    predicted: np.ndarray

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.emitted + other.emitted, self.predicted + other.predicted)


def count_usage(rows: pa.Table, size: int) -> Usage:
    """Counts the tokens of `rows` (`schemas.rows`). Replaced tokens count as what they replaced."""
    ids, starts, _ = flatten(rows["input_ids"])
    positions, _, counts = flatten(rows["masked_positions"])
    original = ids.copy()
    original[np.repeat(starts, counts) + positions] = flatten(rows["labels"])[0]
    topk = flatten(rows["topk_ids"])[0]
    return Usage(np.bincount(original, minlength=size), np.bincount(topk[topk >= 0], minlength=size))


def kept_tokens(
    usage: Usage, vocabulary: Vocabulary, tokenizers: dict[str, PreTrainedTokenizerFast], min_predicted: int = 1
) -> np.ndarray:
    """bool [V]: the merged tokens to keep.

    Special tokens; what is emitted; what is predicted at least `min_predicted` times; the
    bytes of byte-level BPE; and the pieces from which BPE merges any of these.

    Args:
      tokenizers: the teachers', with merged ids.
    """
    kept = (usage.emitted > 0) | (usage.predicted >= max(1, min_predicted))
    kept |= np.isin(vocabulary.roles, SPECIAL_ROLES)
    for tokenizer in tokenizers.values():
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        model = state["model"]
        if "merges" not in model:
            continue
        ids = model["vocab"]
        if "ByteLevel" in json.dumps([state["pre_tokenizer"], state["decoder"]]):
            kept[[ids[character] for character in byte_alphabet() if character in ids]] = True
        # Latest merges first, so that a kept token keeps its pieces, and they theirs.
        for left, right in reversed(model["merges"]):
            if kept[ids[left + right]]:
                kept[[ids[left], ids[right]]] = True
    return kept


def trim_vocabulary(vocabulary: Vocabulary, kept: np.ndarray) -> tuple[Vocabulary, np.ndarray]:
    """The kept tokens in their order, and int32 [V]: merged ids to trimmed ids, -1 where left out."""
    chosen = np.flatnonzero(kept)
    table = np.full(len(vocabulary), -1, np.int32)
    table[chosen] = np.arange(len(chosen), dtype=np.int32)
    trimmed = Vocabulary(
        [vocabulary.tokens[i] for i in chosen],
        [vocabulary.roles[i] for i in chosen],
        {name: ids[chosen] for name, ids in vocabulary.teacher_ids.items()},
    )
    return trimmed, table


def trim_rows(rows: pa.Table, table: np.ndarray, unknown: int, top_k: int) -> pa.Table:
    """`rows` in trimmed ids.

    Inputs and labels that were left out (random replacements; in other text, rare words)
    become `unknown`. Predictions that were left out come last, as -1 with log-probability -inf.
    """

    def lists(name: str, values: np.ndarray) -> pa.ListArray:
        starts = flatten(rows[name])[1]
        return pa.ListArray.from_arrays(pa.array(np.append(starts, len(values)).astype(np.int32)), pa.array(values))

    columns = {name: rows[name] for name in ROW_SCHEMA.names}
    for name in ("input_ids", "labels"):
        ids = table[flatten(rows[name])[0]]
        columns[name] = lists(name, np.where(ids < 0, np.int32(unknown), ids))
    if top_k:
        ids_MK = flatten(rows["topk_ids"])[0].reshape(-1, top_k)
        # Some may be outside already, where this is not the first trim.
        ids_MK = np.where(ids_MK < 0, np.int32(-1), table[ids_MK])
        logprobs_MK = flatten(rows["topk_logprobs"])[0].reshape(-1, top_k)
        order_MK = np.argsort(ids_MK < 0, axis=1, kind="stable")
        ids_MK = np.take_along_axis(ids_MK, order_MK, 1)
        logprobs_MK = np.where(ids_MK < 0, np.float16(-np.inf), np.take_along_axis(logprobs_MK, order_MK, 1))
        columns["topk_ids"] = lists("topk_ids", ids_MK.ravel())
        columns["topk_logprobs"] = lists("topk_logprobs", logprobs_MK.ravel())
    return pa.table(columns, schema=ROW_SCHEMA)


def trim(predictions: Predictions, output: str, like: str | None = None, min_predicted: int = 1) -> dict:
    """Writes `predictions` to the folder `output` over a smaller vocabulary; returns the report as JSON values.

    Files that are there already are kept, so that it can be stopped and run again.

    Args:
      like: a trimmed folder whose vocabulary and tokenizers to use, say for held-out text.

    Raises:
      UserError: `output` holds other files, `like` is over another vocabulary, or two of
        the folders hold files of the same name.
    """
    manifest = _join_manifests(predictions)
    vocabulary = predictions.vocabulary
    tokenizers = deployed_tokenizers(predictions.newest)
    usage = sum(
        _each(predictions.files, "counting", lambda file: count_usage(_read(file), len(vocabulary))),
        Usage(np.zeros(len(vocabulary), np.int64), np.zeros(len(vocabulary), np.int64)),
    )
    if like:
        kept = _tokens_of(like, vocabulary)
    else:
        kept = kept_tokens(usage, vocabulary, tokenizers, min_predicted)
    trimmed, table = trim_vocabulary(vocabulary, kept)
    present = list_files(output)
    unknown = trimmed.id_of("unknown")

    def write(file: PredictionFile) -> None:
        url = join(output, file.record.path)
        metadata = read_footer(file.url).metadata
        ours = footer(file.top_k, trimmed.sha256, metadata[RECEIPT_KEY.encode()].decode())
        if file.record.path in present:
            check_footer(url, read_footer(url).metadata, file.top_k, trimmed.sha256)
        else:
            rows = trim_rows(_read(file), table, unknown, file.top_k)
            write_rows(url, rows, ours, max([1, *file.record.row_groups]))

    for _ in _each(predictions.files, "writing", write):
        pass
    write_vocabulary(join(output, VOCABULARY_FILE), trimmed)
    words = read_words(join(like or predictions.newest, WORDS_FILE))
    if like:
        remapped = deployed_tokenizers(like)
    else:
        remapped = {name: remap_tokenizer(tokenizer, table) for name, tokenizer in tokenizers.items()}
        words = _trim_words(words, table)
    deploy_tokenizers(output, remapped, trimmed, words)
    record = VocabularyRecord(size=len(trimmed), sha256=trimmed.sha256)
    write_manifest(output, manifest.model_copy(update={"vocabulary": record}))
    return {
        "tokens": len(vocabulary),
        "kept": len(trimmed),
        "kept_by_teacher": {name: int((ids >= 0).sum()) for name, ids in trimmed.teacher_ids.items()},
        "emitted_outside": float(usage.emitted[~kept].sum() / max(1, usage.emitted.sum())),
        "predicted_outside": float(usage.predicted[~kept].sum() / max(1, usage.predicted.sum())),
    }


def format_report(found: dict, hidden_size: int) -> str:
    """The report as lines, with what it saves a student of `hidden_size`."""
    saved = (found["tokens"] - found["kept"]) * (hidden_size + 1)
    by_teacher = ", ".join(f"{name} {count:,}" for name, count in found["kept_by_teacher"].items())
    return (
        f"{found['tokens']:,} merged tokens, {found['kept']:,} kept ({by_teacher})\n"
        f"outside: {found['emitted_outside']:.3%} of the text's tokens, "
        f"{found['predicted_outside']:.3%} of the predictions\n"
        f"saved: {saved:,} parameters of a student of width {hidden_size}, whose embedding and head share their weights"
    )


def _join_manifests(predictions: Predictions) -> Manifest:
    """One manifest for all folders: of the newest, with everyone's teachers, languages and files."""
    paths = [file.record.path for file in predictions.files]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise UserError(
            f"{twice} is in more than one of {', '.join(predictions.folders)}; trim them into folders apart"
        )
    teachers = {}
    for manifest in predictions.manifests:
        for name, record in manifest.teachers.items():
            known = teachers[name].languages if name in teachers else []
            languages = [*known, *(language for language in record.languages if language not in known)]
            teachers[name] = record.model_copy(update={"languages": languages})
    newest = predictions.manifests[predictions.folders.index(predictions.newest)]
    return newest.model_copy(
        update={
            "max_length": predictions.max_length,
            "teachers": teachers,
            "languages": [record for manifest in predictions.manifests for record in manifest.languages],
            "files": [file.record for file in predictions.files],
        }
    )


def _tokens_of(like: str, vocabulary: Vocabulary) -> np.ndarray:
    """bool [V]: the tokens of `vocabulary` that the trimmed folder `like` has."""
    target = read_vocabulary(join(like, VOCABULARY_FILE))
    wanted = set(zip(target.roles, target.tokens, strict=True))
    kept = np.array([written in wanted for written in zip(vocabulary.roles, vocabulary.tokens, strict=True)])
    if trim_vocabulary(vocabulary, kept)[0].sha256 != target.sha256:
        raise UserError(f"{like}: its vocabulary is no part of this one; it was trimmed from another")
    return kept


def _trim_words(words: pa.Table, table: np.ndarray) -> pa.Table:
    """The words all of whose tokens are kept, in trimmed ids."""
    ids, starts, lengths = flatten(words["ids"])
    trimmed = table[ids]
    offsets = np.append(starts, len(ids)).astype(np.int32)
    words = words.set_column(
        words.schema.get_field_index("ids"), "ids", pa.ListArray.from_arrays(pa.array(offsets), pa.array(trimmed))
    )
    left_out = np.add.reduceat(np.append(trimmed < 0, False), starts) if len(starts) else np.empty(0, int)
    return words.filter(pa.array(left_out == 0))


def _read(file: PredictionFile) -> pa.Table:
    fs, path = filesystem(file.url)
    with fs.open(path, "rb") as stream:
        parquet = pq.ParquetFile(stream)
        check_footer(file.url, parquet.metadata.metadata, file.top_k, file.vocabulary_sha256)
        return parquet.read()


def _each(files: list[PredictionFile], what: str, work: Callable[[PredictionFile], Result]) -> Iterator[Result]:
    """`work` of each file, several at a time, with progress in rows."""
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        tqdm(total=sum(f.record.rows for f in files), desc=what, unit="row") as bar,
    ):
        for file, result in zip(files, pool.map(work, files), strict=True):
            bar.update(file.record.rows)
            yield result


def _run(options: argparse.Namespace) -> None:
    if options.output in options.folders:
        raise UserError(f"--output {options.output}: is one of the folders to read; choose another")
    found = trim(open_predictions(*options.folders), options.output, options.like, options.min_predicted)
    print(format_report(found, options.hidden_size))
    if options.json:
        write_bytes(options.json, json.dumps(found, indent=2).encode() + b"\n")


def main(arguments: list[str]) -> int:
    """Trims; returns the exit code (0 done, 2 bad input)."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.trim",
        description="Write predictions over a smaller merged vocabulary, without the tokens that the corpora neither "
        "emit nor predict. Predictions outside it count as tail mass.",
    )
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="what the pipeline wrote; with it, what it extends"
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="the trimmed folder; run again to resume")
    parser.add_argument("--like", metavar="FOLDER", help="use this trimmed folder's vocabulary, e.g. for held-out text")
    parser.add_argument(
        "--min-predicted",
        type=int,
        default=1,
        metavar="N",
        help="keep tokens that are only predicted from N times on (1)",
    )
    parser.add_argument("--hidden-size", type=int, default=768, metavar="H", help="the student's, for the report (768)")
    parser.add_argument("--json", metavar="FILE", help="write the report there too, as JSON")
    options = parser.parse_args(arguments)
    return exit_code_of(lambda: _run(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
