"""docs/teachers.md: the tokenizer of each architecture is right, and each kind of tokenizer has a test."""

import ast
import re

import pytest
import transformers
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from pipeline.teachers.tokenizer import family_of
from schemas.errors import UserError
from tests.support.architectures import MODEL_TYPES
from tests.support.documents import table
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "teachers.md"
NAMES = {
    "wordpiece": "WordPiece",
    "sentencepiece": "SentencePiece",
    "byte-level": "byte-level BPE",
}


def kind_of(model_type: str) -> str:
    """What the table should say about the tokenizer class that transformers names for an architecture."""
    name = TOKENIZER_MAPPING_NAMES.get(model_type)
    if name in (None, "TokenizersBackend"):
        return "as its tokenizer.json says"
    if name == "EsmTokenizer":
        return "characters"  # the one Python-only class that is read; `test_a_vocabulary_of_amino_acids`
    kind = getattr(transformers, name)
    try:
        tokenizer = kind()  # of a few tokens
    except ImportError:
        return "Python code only"
    except TypeError:
        assert not issubclass(kind, transformers.PreTrainedTokenizerFast)
        return "Python code only"
    if not tokenizer.is_fast:
        return "Python code only"
    try:
        return NAMES[family_of("t", tokenizer.backend_tokenizer)]
    except UserError:  # neither WordPiece nor any other that is known
        return "refused: of an unknown kind"


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_tokenizer_of_each_architecture(model_type):
    rows = {row["model type"].strip("`"): row["tokenizer"] for row in table(PAGE, "model type")}
    assert rows[model_type] == kind_of(model_type)


def test_a_test_stands_behind_each_kind_of_tokenizer():
    defined = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    rows = table(PAGE, "kind")
    assert len(rows) >= 10
    for row in rows:
        tests = re.findall(r"`(test_\w+)`", row["tests"])
        assert tests and set(tests) <= defined, row["kind"]
