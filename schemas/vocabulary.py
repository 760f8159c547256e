"""The merged vocabulary: one table from merged ids to the ids of every teacher.

`_vocabulary.parquet` has one row for each merged id, in the order of ids:

| column      | type          | meaning                                                     |
| ----------- | ------------- | ----------------------------------------------------------- |
| `id`        | int32         | the merged id, 0 .. size-1                                  |
| `token`     | string        | how the token is written (see below)                        |
| `role`      | string        | what kind of token it is (see below)                        |
| `<teacher>` | int32 or null | the teacher's id of the token, null if it has no such token |

Roles: `pad`, `unknown`, `start`, `end`, `mask` (at most one token for each); `word` (a
token that starts a word, written with a leading `▁`), `continuation` (a token that
continues the token before it) and `literal` (known only by the teacher's string, such as
`[unused7]`). `(role, token)` is unique. Bytes that are not whole UTF-8 characters are
written `<0xE2><0x80>`.
"""

import hashlib
import io
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import UserError, first_line
from schemas.names import is_name
from schemas.storage import read_bytes, write_bytes

VOCABULARY_FILE = "_vocabulary.parquet"
SPECIAL_ROLES = ("pad", "unknown", "start", "end", "mask")
WORD, CONTINUATION, LITERAL = "word", "continuation", "literal"
# The role of each special token that transformers has a name for: `pad_token`, `pad_token_id`, ...
TRANSFORMERS_ROLES = {
    "pad": "pad",
    "unk": "unknown",
    "cls": "start",
    "sep": "end",
    "bos": "start",
    "eos": "end",
    "mask": "mask",
}
FIXED_COLUMNS = ("id", "token", "role")


@dataclass(frozen=True)
class Vocabulary:
    """A merged vocabulary of V tokens.

    Attributes:
      tokens: how each merged id is written, V strings.
      roles: the role of each merged id, V strings.
      teacher_ids: for each teacher int32 [V], that teacher's ids or -1.
    """

    tokens: list[str]
    roles: list[str]
    teacher_ids: dict[str, np.ndarray] = field(repr=False)

    def __len__(self) -> int:
        return len(self.tokens)

    def id_of(self, role: str) -> int:
        """Returns the merged id of a special role. Raises UserError if the vocabulary has no such token."""
        if role not in self.roles:
            raise UserError(f"the merged vocabulary has no {role} token: no teacher defines one")
        return self.roles.index(role)

    def to_merged(self, teacher: str) -> np.ndarray:
        """int32 [highest id of the teacher + 1]: the merged id of each of the teacher's ids, -1 if it has no token."""
        teacher_ids = self.teacher_ids[teacher]
        merged_ids = np.flatnonzero(teacher_ids >= 0)
        table = np.full(int(teacher_ids.max(initial=-1)) + 1, -1, np.int32)
        table[teacher_ids[merged_ids]] = merged_ids
        return table

    def extends(self, base: "Vocabulary") -> bool:
        """Whether every token of `base`, with the ids of its teachers, has the same merged id here."""
        size = len(base)
        return (
            self.tokens[:size] == base.tokens
            and self.roles[:size] == base.roles
            and base.teacher_ids.keys() <= self.teacher_ids.keys()
            and all(
                np.array_equal(self.teacher_ids[name][:size], ids) and (self.teacher_ids[name][size:] < 0).all()
                for name, ids in base.teacher_ids.items()
            )
        )

    @cached_property
    def sha256(self) -> str:
        """The fingerprint of the tokens, their roles and the ids of every teacher."""
        digest = hashlib.sha256()
        for token, role in zip(self.tokens, self.roles, strict=True):
            digest.update(f"{len(token.encode())}:{token}{role}\n".encode())
        for teacher, ids in self.teacher_ids.items():
            digest.update(f"{teacher}\n".encode() + ids.astype("<i4").tobytes())
        return digest.hexdigest()


def write_vocabulary(url: str, vocabulary: Vocabulary) -> None:
    """Writes `vocabulary` as Parquet to `url`, atomically."""
    columns = {
        "id": pa.array(np.arange(len(vocabulary), dtype=np.int32)),
        "token": pa.array(vocabulary.tokens, pa.string()),
        "role": pa.array(vocabulary.roles, pa.string()),
    }
    for teacher, ids in vocabulary.teacher_ids.items():
        columns[teacher] = pa.array(ids, pa.int32(), mask=ids < 0)
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd", write_page_checksum=True)
    write_bytes(url, buffer.getvalue())


def read_vocabulary(url: str) -> Vocabulary:
    """Reads and checks a file of `write_vocabulary`. Raises UserError if it is missing, foreign or damaged."""
    try:
        # A small table needs no threads, which could outlive a stopped command.
        table = pq.read_table(
            io.BytesIO(read_bytes(url)), use_threads=False, pre_buffer=False, page_checksum_verification=True
        )
    except FileNotFoundError:
        raise UserError(f"{url}: the merged vocabulary is missing; run the pipeline first") from None
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{url}: not a Parquet file ({first_line(error)})") from None
    if fault := _fault(table):
        raise UserError(f"{url}: not a merged vocabulary: {fault}; rerun the pipeline that wrote it")
    return Vocabulary(
        tokens=table["token"].to_pylist(),
        roles=table["role"].to_pylist(),
        teacher_ids={
            name: table[name].fill_null(-1).to_numpy().astype(np.int32)
            for name in table.column_names
            if name not in FIXED_COLUMNS
        },
    )


def _fault(table: pa.Table) -> str | None:
    """Returns what is wrong with a table that should be a vocabulary, or None."""
    names = table.column_names
    if missing := [name for name in FIXED_COLUMNS if name not in names]:
        return f"no column {missing[0]}"
    teachers = [name for name in names if name not in FIXED_COLUMNS]
    if len(set(names)) < len(names) or not all(map(is_name, teachers)):
        return "two columns have the same name, or a column's name cannot be a teacher's"
    for name in names:
        expected = pa.string() if name in ("token", "role") else pa.int32()
        if table.schema.field(name).type != expected:
            return f"column {name} is {table.schema.field(name).type}, not {expected}"
        if name in FIXED_COLUMNS and table[name].null_count:
            return f"column {name} has nulls"
    if not np.array_equal(table["id"].to_numpy(), np.arange(len(table))):
        return "ids are not 0, 1, 2, ..."
    try:
        tokens, roles = table["token"].to_pylist(), table["role"].to_pylist()
    except UnicodeDecodeError:
        return "a token is not UTF-8"
    if unknown := set(roles) - {*SPECIAL_ROLES, WORD, CONTINUATION, LITERAL}:
        return f"unknown role {min(unknown)[:50]!r}"
    if len(set(zip(roles, tokens, strict=True))) < len(table):
        return "a token occurs twice"
    for role in SPECIAL_ROLES:
        if not (role in ("pad", "mask")) <= roles.count(role) <= 1:
            return f"{roles.count(role)} {role} tokens"
    for name in teachers:
        ids = table[name].drop_null().to_numpy()
        if (len(ids) and ids.min() < 0) or len(np.unique(ids)) < len(ids):
            return f"an id of teacher {name} is negative or occurs twice"
    return None
