"""`python -m benchmarks.vocabulary`: the merged vocabulary and its tokenizer compared with `add_tokens`.

The teachers have made-up tokens and alternate between the tokenizer families; all share a third of every vocabulary. The
peer is what users write: `tokenizer.add_tokens(tokens of the others)`, saved and loaded again. Every figure comes from a
separate process, so that peak memory is measured separately.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.student_tokenizers.default import default_tokenizer
from pipeline.student_tokenizers.store import write_tokenizer
from pipeline.student_tokenizers.word_counts import MOST_SAMPLE_BYTES, WORDS_SCHEMA
from pipeline.teachers.family import BYTE_LEVEL, SENTENCEPIECE, WORDPIECE
from pipeline.teachers.tokenizer import TeacherTokenizer
from pipeline.vocabulary.merge import merge
from schemas.tables import format_table
from schemas.vocabulary import Vocabulary

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
ROLES = dict(zip(["start", "pad", "end", "unknown", "mask"], range(5), strict=True))
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def make_words(seed: str, count: int) -> list[str]:
    """Returns `count` distinct made-up words of 2 to 9 letters, the same on every call."""
    source = random.Random(seed)
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(source.choices(LETTERS, k=source.randint(2, 9)))] = None
    return list(words)


def make_teachers(count: int, tokens: int) -> list[TeacherTokenizer]:
    """Returns teachers of `tokens` tokens, half of which start a word."""
    teachers = []
    shared = make_words("shared", tokens // 3)
    for number in range(count):
        family = [WORDPIECE, SENTENCEPIECE, BYTE_LEVEL][number % 3]
        marks = {WORDPIECE: ("", "##"), SENTENCEPIECE: ("▁", ""), BYTE_LEVEL: ("Ġ", "")}[family]
        unshared = make_words(str(number), tokens)
        words = list(dict.fromkeys([*LETTERS, *shared, *unshared]))[: tokens - len(SPECIALS)]
        strings = [*SPECIALS, *(marks[index % 2] + word for index, word in enumerate(words))]
        teachers.append(
            TeacherTokenizer(
                name=f"teacher-{number}",
                hf=None,
                family=family,
                tokens=dict(enumerate(strings)),
                roles=ROLES,
                pad_id=ROLES["pad"],
                prefix=(0,),
                suffix=(2,),
                added=frozenset(range(5)),
            )
        )
    return teachers


def measure_union(count: int, tokens: int) -> dict:
    """Measures the project's union."""
    teachers = make_teachers(count, tokens)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    vocabulary = merge(teachers)
    fingerprint = vocabulary.sha256
    return _figures(started, tokens=len(vocabulary), before=before, sha256=fingerprint[:12])


def measure_add_tokens(count: int, tokens: int, folder: str) -> dict:
    """Measures the union by `add_tokens`, saved to `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    teachers = make_teachers(count, tokens)
    first = {token: token_id for token_id, token in teachers[0].tokens.items()}
    backend = Tokenizer(models.WordPiece(first, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", mask_token="<mask>")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    for teacher in teachers[1:]:
        tokenizer.add_tokens(list(teacher.tokens.values()))
    figures = _figures(started, tokens=len(tokenizer), before=before)
    tokenizer.save_pretrained(folder)
    return figures


def save_default(count: int, tokens: int, folder: str) -> dict:
    """Measures the project's default tokenizer, saved to `folder`."""
    vocabulary = merge(make_teachers(count, tokens))
    started = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_tokenizer(folder, default_tokenizer(vocabulary, WORDS_SCHEMA.empty_table(), [], 512))
    return _figures(started, tokens=len(vocabulary), before=before)


def fit_default(languages: int, count: int, tokens: int) -> dict:
    """Measures fitting the project's default tokenizer to samples of `languages` languages, each of the maximum size."""
    teachers = make_teachers(count, tokens)
    vocabulary = merge(teachers)
    size = MOST_SAMPLE_BYTES // languages
    words = pa.concat_tables(
        [make_sample(str(number), teachers[number % count], vocabulary, size) for number in range(languages)]
    )
    _, figures = _measured(lambda: default_tokenizer(vocabulary, words, [], 512))
    return figures | {"tokens": len(vocabulary), "words": len(words)}


def make_sample(language: str, teacher: TeacherTokenizer, vocabulary: Vocabulary, size: int) -> pa.Table:
    """Returns the words of a text of `size` bytes: each has one or two tokens, and frequencies follow Zipf's law."""
    random_numbers = np.random.default_rng(int(language))
    to_merged = vocabulary.to_merged(teacher.name)
    first = len(SPECIALS)
    starts_W, rests_W = (
        random_numbers.choice(np.arange(first + odd, len(teacher.tokens), 2), size // 4) for odd in (0, 1)
    )
    is_long_W = random_numbers.random(size // 4) < 0.5
    shares_W = 1 / np.arange(1, size // 4 + 1)
    words: dict[str, tuple[int, list[int]]] = {}
    counts = random_numbers.multinomial(size // 6, shares_W / shares_W.sum()).tolist()
    for start, rest, is_long, times in zip(starts_W, rests_W, is_long_W, counts, strict=True):
        parts = [start, rest] if is_long else [start]
        if times:
            text = "".join(teacher.tokens[part].strip("#▁Ġ") for part in parts)
            words.setdefault(text, (times, to_merged[parts].tolist()))
    rows = sorted(words.items(), key=lambda row: -row[1][0])
    columns = {
        "language": [language] * len(rows),
        "teacher": [teacher.name] * len(rows),
        "word": [word for word, _ in rows],
        "count": [times for _, (times, _) in rows],
        "ids": [ids for _, (_, ids) in rows],
    }
    return pa.table(columns, WORDS_SCHEMA)


def measure_teacher(family: str, tokens: int, folder: str) -> list[dict]:
    """Measures one teacher of `tokens` tokens: its tokenizer is loaded, remapped to merged ids, saved and loaded again."""
    from pipeline.config import TeacherConfig
    from pipeline.student_tokenizers.remap import remap_tokenizer
    from pipeline.student_tokenizers.store import read_tokenizer
    from pipeline.teachers.tokenizer import load_tokenizer

    save_teacher(family, tokens, folder)
    config = TeacherConfig(model=folder, languages=["made-up"])
    teacher, loading = _measured(lambda: load_tokenizer("teacher", config))
    # All ids become higher, as if another teacher's tokens came before.
    to_merged = np.arange(tokens, dtype=np.int32) + tokens
    remapped, remapping = _measured(lambda: remap_tokenizer(teacher.hf, to_merged))
    _, saving = _measured(lambda: write_tokenizer(f"{folder}/merged", remapped, 2 * tokens))
    _, reloading = _measured(lambda: read_tokenizer(f"{folder}/merged", 2 * tokens))
    steps = {"load": loading, "merged ids": remapping, "save": saving, "load again": reloading}
    return [{"what": f"{family}: {name}", "tokens": tokens} | step for name, step in steps.items()]


def save_teacher(family: str, tokens: int, folder: str) -> None:
    """Saves a tokenizer of `tokens` made-up tokens in the Hugging Face layout; byte-level BPE has a merge for each token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if family == WORDPIECE:
        words = [("##" * (index % 2)) + word for index, word in enumerate(make_words("own", tokens))]
        strings = [*SPECIALS, *LETTERS, *words]
        ids = {token: token_id for token_id, token in enumerate(list(dict.fromkeys(strings))[:tokens])}
        backend = Tokenizer(models.WordPiece(ids, unk_token="<unk>", continuing_subword_prefix="##"))
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    elif family == SENTENCEPIECE:
        words = [("▁" * (index % 2)) + word for index, word in enumerate(make_words("own", tokens))]
        strings = [*SPECIALS, *LETTERS, *words]
        entries = [(token, -float(token_id)) for token_id, token in enumerate(list(dict.fromkeys(strings))[:tokens])]
        backend = Tokenizer(models.Unigram(entries, unk_id=SPECIALS.index("<unk>")))
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    else:
        ids = {
            token: token_id for token_id, token in enumerate([*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())])
        }
        source, pieces, merges = random.Random("merges"), ["Ġ", *LETTERS], []
        while len(ids) < tokens:
            left, right = source.choice(pieces), source.choice(LETTERS)
            if left + right not in ids:
                ids[left + right] = len(ids)
                pieces.append(left + right)
                merges.append((left, right))
        backend = Tokenizer(models.BPE(ids, merges))
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    roles = dict(zip(["cls_token", "pad_token", "sep_token", "unk_token", "mask_token"], SPECIALS, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=backend, **roles).save_pretrained(folder)


def _measured(step) -> tuple:
    """Returns the result of `step` and its figures, including CPU seconds, because the machine may be shared."""
    before, started, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), time.process_time()
    result = step()
    return result, _figures(started, before, cpu_seconds=time.process_time() - cpu)


def measure_load(folder: str) -> dict:
    """Measures `AutoTokenizer.from_pretrained`, after the imports, and the rate of encoding 2,000 lines."""
    from transformers import AutoTokenizer

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    figures = _figures(started, tokens=len(tokenizer), before=before)
    words = make_words("text", 20_000)
    lines = [" ".join(words[start : start + 10]) for start in range(0, len(words), 10)]
    started = time.perf_counter()
    tokenizer(lines)
    return figures | {"lines_a_second": len(lines) / (time.perf_counter() - started)}


def _figures(started: float, before: int, **more) -> dict:
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return more | {"seconds": seconds, "peak_mib": peak / 1024, "added_mib": (peak - before) / 1024}


def _in_subprocess(function: str, *arguments):
    code = f"import json; from benchmarks.vocabulary import *; print(json.dumps({function}(*{arguments!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _table(steps: dict[str, dict]) -> str:
    """Returns a table of the figures of each step."""
    head = ["", "tokens", "seconds", "of CPU", "peak MiB", "of that added", "lines/s"]
    rows = [
        [
            what,
            f"{step['tokens']:,}",
            f"{step['seconds']:.2f}",
            f"{step['cpu_seconds']:.2f}" if "cpu_seconds" in step else "",
            f"{step['peak_mib']:,.0f}",
            f"{step['added_mib']:,.0f}",
            f"{step['lines_a_second']:,.0f}" if "lines_a_second" in step else "",
        ]
        for what, step in steps.items()
    ]
    return format_table(head, rows)


def main(arguments: list[str]) -> None:
    """Prints every figure and the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vocabulary", description=__doc__)
    parser.add_argument("--teachers", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=100_000, help="tokens of each teacher (100000)")
    parser.add_argument(
        "--load-tokens",
        type=int,
        default=78_000,
        help="tokens of each teacher, for the tokenizer that is loaded (78000)",
    )
    parser.add_argument(
        "--languages",
        type=int,
        default=200,
        help="how many languages' samples the default tokenizer is fitted to (200)",
    )
    parser.add_argument(
        "--large", type=int, nargs="*", default=[128_000, 256_000], help="sizes of single teachers (128000 256000)"
    )
    options = parser.parse_args(arguments)
    for tokens in options.large:
        for family in (BYTE_LEVEL, SENTENCEPIECE, WORDPIECE):
            with tempfile.TemporaryDirectory() as folder:
                steps = _in_subprocess("measure_teacher", family, tokens, folder)
                print(_table({step["what"]: step for step in steps}) + "\n", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        theirs, ours = str(Path(scratch) / "theirs"), str(Path(scratch) / "ours")
        union = _in_subprocess("measure_union", options.teachers, options.tokens)
        added = _in_subprocess("measure_add_tokens", options.teachers, options.tokens, str(Path(scratch) / "all"))
        saved = _in_subprocess("save_default", options.teachers, options.load_tokens, ours)
        _in_subprocess("measure_add_tokens", options.teachers, options.load_tokens, theirs)
        fitted = _in_subprocess("fit_default", options.languages, options.teachers, options.load_tokens)
        load, reload = (_in_subprocess("measure_load", folder) for folder in (ours, theirs))
        print(
            _table(
                {
                    "union": union,
                    "union by add_tokens": added,
                    "default tokenizer: fit and save": saved,
                    f"default tokenizer: fit to {fitted['words']:,} words of {options.languages} languages": fitted,
                    "default tokenizer: load": load,
                    "by add_tokens: load": reload,
                }
            )
        )
        print(
            f"add_tokens / ours: union {added['seconds'] / union['seconds']:.1f}x, "
            f"load {reload['seconds'] / load['seconds']:.1f}x, "
            f"encoding time {load['lines_a_second'] / reload['lines_a_second']:.1f}x"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
