"""The tables of docs/parquet.md, docs/merged-vocabulary.md and docs/training.md agree with the code."""

import re

import pyarrow as pa

from pipeline.teachers.family import BYTE_LEVEL, SENTENCEPIECE, WORD_END, WORDPIECE
from pipeline.vocabulary.identity import FAMILIES, display
from schemas import SCHEMA_VERSION
from schemas.file_table import FILE_SCHEMA, FileRecord
from schemas.manifest import LanguageRecord, Manifest, Masking, TeacherRecord
from schemas.rows import ROW_SCHEMA, footer, row_schema
from schemas.vocabulary import CONTINUATION, FIXED_COLUMNS, LITERAL, SPECIAL_ROLES, WORD
from tests.support.documents import table
from tests.support.paths import ROOT
from trainer.artifacts.metrics import _BY_LANGUAGE
from trainer.artifacts.scores import LanguageScores

PARQUET, MERGED, TRAINING = (ROOT / "docs" / f"{page}.md" for page in ("parquet", "merged-vocabulary", "training"))
COLUMNS = {"WordPiece": WORDPIECE, "Unigram": SENTENCEPIECE, "byte-level BPE": BYTE_LEVEL, "`</w>` BPE": WORD_END}


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_columns():
    names = {pa.string(): "string"}
    kinds = {field.name: names.get(field.type) or f"list of {_short(field.type.value_type)}" for field in row_schema(1)}
    rows = table(PARQUET, "column | type | shape")
    assert [codes(row["column"])[0] for row in rows] == ROW_SCHEMA.names
    described = {codes(row["column"])[0]: row["type"] for row in rows}
    for row in table(PARQUET, "column of samples"):
        described[codes(row["column of samples"])[0]] = row["type"]
    assert described == kinds


def _short(value_type: pa.DataType) -> str:
    return {pa.int32(): "int32", pa.float32(): "float32", pa.float16(): "float16"}[value_type]


def test_footer():
    rows = table(PARQUET, "key")
    assert [codes(row["key"])[0] for row in rows] == list(footer(8, "", "", [], "", tail_samples=1))
    assert rows[0]["value"] == str(SCHEMA_VERSION)
    assert f"schema version {SCHEMA_VERSION}." in PARQUET.read_text(encoding="utf-8")


def test_manifest():
    rows = {name: row["meaning"] for row in table(PARQUET, "field") for name in codes(row["field"])}
    assert set(rows) == Manifest.model_fields.keys() | Manifest.model_computed_fields.keys()
    for name, record in (("masking", Masking), ("teachers", TeacherRecord), ("languages", LanguageRecord)):
        assert set(codes(rows[name])) == set(record.model_fields), name


def test_list_of_files():
    names = {"string": pa.string(), "int64": pa.int64(), "list of int64": FILE_SCHEMA.field("row_groups").type}
    described = {
        name: names[row["type"]] for row in table(PARQUET, "column of files") for name in codes(row["column of files"])
    }
    assert described == {field.name: field.type for field in FILE_SCHEMA}
    assert described.keys() == FileRecord.model_fields.keys()


def test_vocabulary():
    rows = table(PARQUET, "column | type | meaning")
    assert [codes(row["column"])[0] for row in rows[:-1]] == list(FIXED_COLUMNS)
    assert codes(rows[2]["meaning"]) == [*SPECIAL_ROLES, WORD, CONTINUATION, LITERAL]


def test_metrics():
    rows = {
        name: row["meaning"] for row in table(TRAINING, "field of a line") for name in codes(row["field of a line"])
    }
    # `tail` is a field of the configuration.
    assert tuple(dict.fromkeys(code for code in codes(rows["train"]) if code != "tail")) == _BY_LANGUAGE
    assert codes(rows["heldout"]) == list(LanguageScores.__dataclass_fields__)


def test_token_identity():
    """By the rules of its family, each token in the table of rules has the identity that its row gives."""
    tried = 0
    for row in table(MERGED, "merged token"):
        (written,) = codes(row["merged token"])
        kind = row["merged token"].split()[0]
        # Roles and placeholders are recognised before the rules of a family apply.
        if kind not in (WORD, CONTINUATION, LITERAL) or written == "[unused7]":
            continue
        for column, family in COLUMNS.items():
            for token in codes(row[column]):
                identity = FAMILIES[family](token)
                assert (identity[0], display(identity)) == (kind, written), (column, token)
                tried += 1
    assert tried > 25
