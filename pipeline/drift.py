"""`python -m pipeline.drift FOLDER --text LANGUAGE=FILE ...`: how far the default tokenizer is from the teachers'.

A student learns each language as its teacher segments it. The default tokenizer segments text
of any language without knowing which one it is, so it cannot always agree. This
report says how often it does, on text that should be held out.
"""

from schemas.process import exit_code_of, run_command

if __name__ == "__main__":
    # Runs before the imports, which take seconds, so that Ctrl-C works during them too.
    run_command("pipeline.drift")

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from pipeline.engine.tasks import RunTasks, in_batches, in_threads, runner_of
from pipeline.student_tokenizers.store import read_tokenizer, read_tokenizers
from pipeline.student_tokenizers.word_counts import tokens_of_spans
from pipeline.text.corpus import Corpus
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
from schemas.vocabulary import SPECIAL_ROLES, VOCABULARY_FILE, Vocabulary, read_vocabulary

_LINES = 512
# Minimum number of bytes to read at a time.
_PART_BYTES = 2**20
# The text between spaces, but each Chinese character is its own word.
RUNNING_WORD = re.compile(rf"[{HAN}]|[^\s{HAN}]+")


@dataclass(frozen=True)
class Drift:
    """Compares the default tokenizer with that of a language's teacher, on the same text.

    Attributes:
      words: running words (`RUNNING_WORD`), at least one.
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

    @classmethod
    def of(cls, teacher: str, counts: np.ndarray) -> "Drift":
        """Makes it from the counts of all the text (`count_words`)."""
        words, identical, tokens, unknown = counts[0], counts[1], counts[2:4], counts[4:]
        return cls(teacher, int(words), identical / words, *(tokens / words).tolist(), *(unknown / tokens).tolist())


def count_words(
    of_teacher: PreTrainedTokenizerFast, default: PreTrainedTokenizerFast, lines: Iterator[str]
) -> np.ndarray:
    """Returns int64 [6] for `lines`: words, words segmented alike, tokens of each tokenizer, unknown tokens of each.

    Both tokenizers give merged ids.
    """
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
    return np.array([words, identical, *tokens, *unknown])


class TextPart(NamedTuple):
    """A part of a language's text, and the teacher with which the default tokenizer is compared."""

    language: str
    teacher: str
    part: TextRange


@dataclass(frozen=True)
class CountTask:
    """Counts the words of parts of the text, by the tokenizers of a folder of predictions.

    Attributes:
      run_sha256: the fingerprint of the folder's run, so that a process reads its tokenizers only once.
    """

    folder: str
    run_sha256: str
    parts: list[TextPart]

    def __call__(self) -> bytes:
        """Returns the sum of `count_words` over the parts of each language, as JSON."""
        counts: dict[str, np.ndarray] = {}
        for language, teacher, part in self.parts:
            lines = (record.text for record in read_records(part) if not record.fault)
            of_part = count_words(*_tokenizers(self.folder, self.run_sha256, teacher), lines)
            counts[language] = counts.get(language, 0) + of_part
        return json.dumps({language: of_all.tolist() for language, of_all in counts.items()}).encode()


@lru_cache
def _tokenizers(folder: str, run_sha256: str, teacher: str) -> tuple[PreTrainedTokenizerFast, PreTrainedTokenizerFast]:
    """Reads a teacher's tokenizer and the default one, both with merged ids."""
    vocabulary = read_vocabulary(join(folder, VOCABULARY_FILE))
    default = read_tokenizer(join(folder, DEFAULT_TOKENIZER), len(vocabulary))
    return read_tokenizers(folder, vocabulary)[teacher], default


def overlaps(vocabulary: Vocabulary) -> dict[str, dict[str, int]]:
    """Returns how many merged tokens each pair of teachers shares, and on the diagonal, how many each teacher has."""
    owned = {name: ids >= 0 for name, ids in vocabulary.teacher_ids.items()}
    return {one: {other: int((owned[one] & owned[other]).sum()) for other in owned} for one in owned}


def union_by_string(vocabulary: Vocabulary, tokenizers: dict[str, PreTrainedTokenizerFast]) -> int:
    """Returns how many tokens the union would have if tokens with equal strings were one (special tokens by role)."""
    union = set()
    for name, ids in vocabulary.teacher_ids.items():
        merged_ids = np.flatnonzero(ids >= 0).tolist()
        for merged, token in zip(merged_ids, tokenizers[name].convert_ids_to_tokens(merged_ids), strict=True):
            role = vocabulary.roles[merged]
            union.add((role, "") if role in SPECIAL_ROLES else ("", token))
    return len(union)


def report(predictions: Predictions, text: dict[str, list[str]], run_tasks: RunTasks = in_threads) -> dict:
    """Makes the report, JSON values: `languages`, `overlap`, `tokens`. Raises UserError if a language has no words."""
    vocabulary, folder = predictions.vocabulary, predictions.newest
    tokenizers = read_tokenizers(folder, vocabulary)
    run_sha256 = predictions.manifests[predictions.folders.index(folder)].run_sha256
    parts = [
        TextPart(language, predictions.teacher_of(language), part)
        for language, patterns in text.items()
        for part in _parts(language, patterns)
    ]
    tasks = [CountTask(folder, run_sha256, batch) for batch in in_batches(parts, [part.part.size for part in parts])]
    counts = {language: np.zeros(6, np.int64) for language in text}
    with tqdm(desc="reading text", total=len(parts), unit=" parts", leave=False) as bar:
        for task, result in zip(tasks, run_tasks(tasks), strict=True):
            for language, of_task in json.loads(result).items():
                counts[language] += of_task
            bar.update(len(task.parts))
    for language, of_all in counts.items():
        if not of_all[0]:
            raise UserError(f"--text {language}: its files have no words")
    return {
        "languages": {
            language: asdict(Drift.of(predictions.teacher_of(language), of_all)) for language, of_all in counts.items()
        },
        "overlap": overlaps(vocabulary),
        "tokens": {
            "merged": len(vocabulary),
            "by_string": union_by_string(vocabulary, tokenizers),
            "separate": sum(int((ids >= 0).sum()) for ids in vocabulary.teacher_ids.values()),
        },
    }


def format_report(figures: dict) -> str:
    """Formats the report as tables."""
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
            format_table(
                ["", "words", "identical", "tokens/word", "teacher tokens/word", "unknown", "teacher unknown"], drifts
            ),
            "",
            "merged tokens that teachers share",
            format_table(["", *names], shared),
            "",
            f"the teachers' {tokens['separate']:,} tokens became {tokens['merged']:,} merged tokens; "
            f"merged by their strings alone, they would be {tokens['by_string']:,}",
        ]
    )


def _parts(language: str, patterns: list[str]) -> list[TextRange]:
    corpus = Corpus.of(find_files(language, patterns), _PART_BYTES)
    return [part for index in range(len(corpus.files)) for part in corpus.ranges(index)]


def _run(folders: list[str], pairs: list[str], json_url: str | None, beam_arguments: list[str]) -> None:
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
    figures = report(predictions, text, runner_of(beam_arguments, predictions.newest))
    print(format_report(figures))
    if json_url:
        write_bytes(json_url, json.dumps(figures, indent=2).encode() + b"\n")


def main(arguments: list[str], prog: str = "python -m pipeline.drift") -> int:
    """Prints the report; returns the exit code (0 done, 2 bad input)."""
    parser = command_parser(
        prog,
        "Compare the default tokenizer of a folder of predictions with each language's own tokenizer (words "
        "segmented identically, tokens per word, unknown tokens), and show how many tokens the teachers share. "
        "With Beam options (--NAME=VALUE, such as --runner=...), Beam's workers read the text.",
    )
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="FOLDER",
        help="folders that the pipeline wrote: one, and the folders that it extends",
    )
    parser.add_argument(
        "--text",
        action="append",
        required=True,
        metavar="LANGUAGE=FILES",
        help="held-out text of a language; repeat the option for more",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the report to this file, as JSON")
    options, beam_arguments = parser.parse_known_args(arguments)
    return exit_code_of(lambda: _run(options.folders, options.text, options.json, beam_arguments))
