"""Words as the teachers segment them, to which the default tokenizer is fitted.

`_words.parquet` holds a sample of each language's text, reduced to its words:

| column     | type        | meaning                                                        |
| ---------- | ----------- | -------------------------------------------------------------- |
| `language` | string      |                                                                |
| `teacher`  | string      |                                                                |
| `word`     | string      | the text between two spaces, punctuation included              |
| `count`    | int64       | how often it occurs in the sample                              |
| `ids`      | list<int32> | the teacher's most common segmentation of it, merged ids       |

The most common words come first. In languages written without spaces, a "word" is a whole clause.
"""

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tokenizers import Encoding

from pipeline.teachers.tokenizer import TeacherTokenizer
from schemas.errors import UserError, first_line
from schemas.ragged import flatten, list_array
from schemas.storage import read_bytes, write_bytes

WORDS_FILE = "_words.parquet"
WORDS_SCHEMA = pa.schema(
    [
        ("language", pa.string()),
        ("teacher", pa.string()),
        ("word", pa.string()),
        ("count", pa.int64()),
        ("ids", pa.list_(pa.int32())),
    ]
)
# Bytes of text to sample for each language and teacher, and for all together.
SAMPLE_BYTES, MOST_SAMPLE_BYTES = 2**22, 2**26
_LINES = 1024
_BETWEEN_SPACES = re.compile(r"\S+")


def count_words(language: str, tokenizer: TeacherTokenizer, lines: Sequence[str]) -> pa.Table:
    """Returns the words of `lines` (`WORDS_SCHEMA`, but with the teacher's ids), as `tokenizer` segments them."""
    seen: dict[str, Counter] = {}
    for start in range(0, len(lines), _LINES):
        batch = lines[start : start + _LINES]
        encodings = tokenizer.hf.backend_tokenizer.encode_batch(batch, add_special_tokens=False)
        for line, encoding in zip(batch, encodings, strict=True):
            spans = [match.span() for match in _BETWEEN_SPACES.finditer(line)]
            for (begin, end), ids in zip(spans, tokens_of_spans(line, encoding, spans), strict=True):
                if ids:
                    seen.setdefault(line[begin:end], Counter())[ids] += 1
    # Among equally common segmentations, takes the one with the smallest ids, so that their order does not matter.
    rows = [
        (word, sum(counts.values()), min(counts, key=lambda ids: (-counts[ids], ids))) for word, counts in seen.items()
    ]
    rows.sort(key=lambda row: (-row[1], row[0]))
    flat = np.fromiter((teacher_id for _, _, ids in rows for teacher_id in ids), np.int64)
    offsets = np.cumsum([0, *(len(ids) for _, _, ids in rows)])
    columns = {
        "language": pa.array([language] * len(rows), pa.string()),
        "teacher": pa.array([tokenizer.name] * len(rows), pa.string()),
        "word": pa.array([word for word, _, _ in rows], pa.string()),
        "count": pa.array([count for _, count, _ in rows], pa.int64()),
        "ids": list_array(flat.astype(np.int32), offsets),
    }
    return pa.table(columns, schema=WORDS_SCHEMA)


def in_merged_ids(words: pa.Table, to_merged: np.ndarray) -> pa.Table:
    """Replaces one teacher's ids in `words` with merged ids; `to_merged` is int32 [the teacher's vocabulary]."""
    ids, starts, lengths = flatten(words["ids"])
    offsets = np.concatenate([starts, [starts[-1] + lengths[-1] if len(starts) else 0]])
    index = words.schema.get_field_index("ids")
    return words.set_column(index, WORDS_SCHEMA.field(index), list_array(to_merged[ids], offsets))


def without(words: pa.Table, pairs: Iterable[tuple[str, str]]) -> pa.Table:
    """Returns `words` without those of the given pairs of language and teacher."""
    for language, teacher in pairs:
        words = words.filter(
            pc.invert(pc.and_(pc.equal(words["language"], language), pc.equal(words["teacher"], teacher)))
        )
    return words


def tokens_of_spans(text: str, encoding: Encoding, spans: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Returns the ids of the tokens that overlap each span of `text`. The spans are in order and do not overlap.

    A space at the beginning of a token belongs to the text that follows, and so does a token of only spaces.
    """
    tokens = []
    letter = 0
    for teacher_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        # Starts ascend, so the text is read only once, however long its runs of spaces are.
        letter = max(letter, start)
        while letter < len(text) and text[letter].isspace():
            letter += 1
        if text[start : start + 1].isspace() or start == end:
            start = letter
        tokens.append((start, max(start + 1, end), teacher_id))
    result = []
    first = 0
    for begin, stop in spans:
        while first < len(tokens) and tokens[first][1] <= begin:
            first += 1
        last = first
        while last < len(tokens) and tokens[last][0] < stop:
            last += 1
        result.append(tuple(teacher_id for _, _, teacher_id in tokens[first:last]))
    return result


def write_words(url: str, words: pa.Table) -> None:
    """Writes a table of words to `url`, atomically."""
    buffer = io.BytesIO()
    pq.write_table(words, buffer, compression="zstd", write_page_checksum=True)
    write_bytes(url, buffer.getvalue())


def read_words(url: str, size: int) -> pa.Table:
    """Reads a table of `write_words`, over `size` merged tokens. Raises UserError if it is missing or invalid."""
    try:
        content = io.BytesIO(read_bytes(url))
        table = pq.read_table(content, use_threads=False, pre_buffer=False, page_checksum_verification=True)
        words = table.cast(WORDS_SCHEMA)
        ids = words["ids"].combine_chunks().flatten()
        if any(words[name].null_count for name in words.column_names) or ids.null_count:
            raise ValueError("it has nulls")
        if len(ids) and not 0 <= pc.min(ids).as_py() <= pc.max(ids).as_py() < size:
            raise ValueError(f"it has ids outside the {size:,} merged tokens")
        return words
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(
            f"{url}: not a valid table of words ({first_line(error)}); rerun the pipeline that wrote it"
        ) from None
