"""`python -m pipeline.drift FOLDER --text LANGUAGE=FILE ...`: how far the default tokenizer is from the teachers'.

A student learns each language as its teacher segments it. The default tokenizer serves text
of any language and must segment without knowing which, so it cannot always agree. This
report says how often it does, on text that should be held out.
"""

from schemas.process import exit_code_of, run_command

if __name__ == "__main__":
    # Before the imports, which take seconds, so that Ctrl-C is answered during them too.
    run_command("pipeline.drift")

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from pipeline.student_tokenizers.store import read_tokenizer, read_tokenizers
from pipeline.student_tokenizers.word_counts import tokens_of_spans
from pipeline.vocabulary.identity import HAN
from schemas.cli import command_parser
from schemas.corpus.files import find_files
from schemas.corpus.ranges import TextRange
from schemas.corpus.records import read_records
from schemas.errors import UserError
from schemas.manifest import DEFAULT_TOKENIZER
from schemas.paths import check_output_file, path_option
from schemas.predictions import Predictions, open_predictions
from schemas.storage import join, write_bytes
from schemas.tables import format_table
from schemas.vocabulary import SPECIAL_ROLES, Vocabulary

_LINES = 512
# What stands between spaces; each Chinese character is a word of its own.
RUNNING_WORD = re.compile(rf"[{HAN}]|[^\s{HAN}]+")


@dataclass(frozen=True)
class Drift:
    """The default tokenizer beside that of a language's teacher, on the same text.

    Attributes:
      words: running words (`RUNNING_WORD`).
      identical: the share of these words that both segment into the same merged ids.
      teacher_fertility, default_fertility: tokens per word.
      teacher_unknown, default_unknown: the share of tokens that are unknown.
    """

    teacher: str
    words: int
    identical: float
    teacher_fertility: float
    default_fertility: float
    teacher_unknown: float
    default_unknown: float


def measure_drift(
    teacher: str, of_teacher: PreTrainedTokenizerFast, default: PreTrainedTokenizerFast, lines: Iterator[str]
) -> Drift:
    """Drift on `lines`. Both tokenizers give merged ids."""
    words = identical = 0
    tokens, unknown = np.zeros(2, np.int64), np.zeros(2, np.int64)
    pair = (of_teacher, default)
    while batch := [line for _, line in zip(range(_LINES), lines, strict=False)]:
        encodings = [tokenizer.backend_tokenizer.encode_batch(batch, add_special_tokens=False) for tokenizer in pair]
        for line, *both in zip(batch, *encodings, strict=True):
            spans = [match.span() for match in RUNNING_WORD.finditer(line)]
            segmented = [tokens_of_spans(line, encoding, spans) for encoding in both]
            words += len(spans)
            identical += sum(one == other for one, other in zip(*segmented, strict=True))
            tokens += [len(encoding.ids) for encoding in both]
            unknown += [
                encoding.ids.count(tokenizer.unk_token_id) for tokenizer, encoding in zip(pair, both, strict=True)
            ]
    if not words:
        raise UserError(f"the text for teacher {teacher!r} has no words")
    return Drift(teacher, words, identical / words, *(tokens / words).tolist(), *(unknown / tokens).tolist())


def overlaps(vocabulary: Vocabulary) -> dict[str, dict[str, int]]:
    """How many merged tokens every two teachers share, and on the diagonal how many each teacher has."""
    owned = {name: ids >= 0 for name, ids in vocabulary.teacher_ids.items()}
    return {one: {other: int((owned[one] & owned[other]).sum()) for other in owned} for one in owned}


def union_by_string(vocabulary: Vocabulary, tokenizers: dict[str, PreTrainedTokenizerFast]) -> int:
    """How many tokens the union would have if tokens of equal strings were one (special tokens by role)."""
    union = set()
    for name, ids in vocabulary.teacher_ids.items():
        merged_ids = np.flatnonzero(ids >= 0).tolist()
        for merged, token in zip(merged_ids, tokenizers[name].convert_ids_to_tokens(merged_ids), strict=True):
            role = vocabulary.roles[merged]
            union.add((role, "") if role in SPECIAL_ROLES else ("", token))
    return len(union)


def report(predictions: Predictions, text: dict[str, list[str]]) -> dict:
    """The whole report as JSON values: `languages`, `overlap` and `tokens`."""
    tokenizers = read_tokenizers(predictions.newest, predictions.vocabulary)
    default = read_tokenizer(join(predictions.newest, DEFAULT_TOKENIZER), len(predictions.vocabulary))
    vocabulary = predictions.vocabulary
    languages = {}
    for language, patterns in text.items():
        teacher = predictions.teacher_of(language)
        lines = tqdm(_lines(language, patterns), desc=language, unit=" lines", leave=False)
        languages[language] = asdict(measure_drift(teacher, tokenizers[teacher], default, iter(lines)))
    return {
        "languages": languages,
        "overlap": overlaps(vocabulary),
        "tokens": {
            "merged": len(vocabulary),
            "by_string": union_by_string(vocabulary, tokenizers),
            "separate": sum(int((ids >= 0).sum()) for ids in vocabulary.teacher_ids.values()),
        },
    }


def format_report(figures: dict) -> str:
    """The report as tables."""
    drifts = [
        [
            language,
            f"{row['words']:,}",
            f"{row['identical']:.1%}",
            f"{row['default_fertility']:.3f}",
            f"{row['teacher_fertility']:.3f}",
            f"{row['default_unknown']:.3%}",
            f"{row['teacher_unknown']:.3%}",
        ]
        for language, row in figures["languages"].items()
    ]
    names = list(figures["overlap"])
    shared = [[name, *(f"{figures['overlap'][name][other]:,}" for other in names)] for name in names]
    tokens = figures["tokens"]
    return "\n".join(
        [
            format_table(["", "words", "identical", "tokens/word", "teacher", "unknown", "teacher"], drifts),
            "",
            "merged tokens that teachers share",
            format_table(["", *names], shared),
            "",
            f"{tokens['separate']:,} tokens of all teachers are {tokens['merged']:,} merged tokens; "
            f"by their strings alone they would be {tokens['by_string']:,}",
        ]
    )


def _lines(language: str, patterns: list[str]) -> Iterator[str]:
    for file in find_files(language, patterns):
        yield from (record.text for record in read_records(TextRange.whole(file)) if not record.fault)


def _run(folders: list[str], pairs: list[str], json_url: str | None) -> None:
    if json_url is not None:
        json_url = path_option(json_url, "--json")
        check_output_file(json_url)
    predictions = open_predictions(*(path_option(folder, "FOLDER") for folder in folders))
    taught = {
        name
        for manifest in predictions.manifests
        for teacher in manifest.teachers.values()
        for name in teacher.languages
    }
    text: dict[str, list[str]] = {}
    for pair in pairs:
        language, separator, pattern = pair.partition("=")
        if not separator or language not in taught:
            raise UserError(
                f"--text {pair}: expected LANGUAGE=FILES with one of {', '.join(sorted(taught))}; "
                "for the languages of a folder that this one extends, give that folder too"
            )
        text.setdefault(language, []).append(path_option(pattern, "--text"))
    figures = report(predictions, text)
    print(format_report(figures))
    if json_url:
        write_bytes(json_url, json.dumps(figures, indent=2).encode() + b"\n")


def main(arguments: list[str], prog: str = "python -m pipeline.drift") -> int:
    """Prints the report; returns the exit code (0 done, 2 bad input)."""
    parser = command_parser(
        prog,
        "Compare the default tokenizer of a folder of predictions with each language's own: words "
        "segmented identically, tokens a word, unknown tokens; and how much of their vocabularies the teachers share.",
    )
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="what the pipeline wrote; with it, what it extends"
    )
    parser.add_argument(
        "--text",
        action="append",
        required=True,
        metavar="LANGUAGE=FILES",
        help="held-out text; may be given many times",
    )
    parser.add_argument("--json", metavar="FILE", help="write the report there too, as JSON")
    options = parser.parse_args(arguments)
    return exit_code_of(lambda: _run(options.folders, options.text, options.json))
