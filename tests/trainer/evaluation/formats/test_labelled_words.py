"""Words with labels: CoNLL-U and token TSV."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UserError
from tests.support.paths import ROOT
from trainer.evaluation.formats.labelled_words import read_sentences

CONLLU = """\
# sent_id = 1
# text = Du vent.
1-2\tDu\t_\t_\t_\t_\t_\t_\t_\t_
1\tde\tde\tADP\t_\t_\t3\tcase\t_\t_
2\tle\tle\tDET\t_\tDefinite=Def\t3\tdet\t_\t_
3\tvent\tvent\tNOUN\t_\t_\t0\troot\t_\tSpaceAfter=No
3.1\tsouffle\tsouffler\tVERB\t_\t_\t_\t_\t_\t_
4\t.\t.\tPUNCT\t_\t_\t3\tpunct\t_\t_

1\t_\t_\t_\t_\t_\t0\troot\t_\t_
2\t10 000\t_\tNUM\t_\t_\t0\troot\t_\t_
"""


def read(tmp_path: Path, content: str | bytes, name: str = "a.tsv") -> list[tuple[list, list]]:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(sentence.words, sentence.labels) for sentence in read_sentences([str(path)])]


def test_words_of_conllu_are_the_lines_with_an_integer_id(tmp_path):
    assert read(tmp_path, CONLLU, "a.conllu") == [
        (["de", "le", "vent", "."], ["ADP", "DET", "NOUN", "PUNCT"]),
        (["_", "10 000"], [None, "NUM"]),
    ]
    (first, second) = read_sentences([str(tmp_path / "a.conllu")])
    assert first.where(3) == f"{tmp_path}/a.conllu:8"
    assert second.where(0) == f"{tmp_path}/a.conllu:10"


def test_columns_of_conllu_are_separated_by_tabs_alone(tmp_path):
    """What stands in the columns that are not used does not matter."""
    line = "1\ta  b\tab  PROPN\tNOUN\tx  y\tx\tzero\t\t \t=|\n"
    assert read(tmp_path, line, "a.conllu") == [(["a  b"], ["NOUN"])]


def test_conllu_compressed_or_with_windows_line_ends_reads_alike(tmp_path):
    windows = ("\ufeff" + CONLLU.replace("\n", "\r\n")).encode()
    assert read(tmp_path, windows, "b.CONLLU") == read(tmp_path, CONLLU, "a.conllu")
    assert read(tmp_path, gzip.compress(windows), "c.conllu.gz") == read(tmp_path, CONLLU, "a.conllu")


def test_token_tsv_of_any_make_is_read(tmp_path):
    plain = "The\tDET\nsea\tNOUN\n\nsings\tVERB\n.\tPUNCT\n"
    expected = [(["The", "sea"], ["DET", "NOUN"]), (["sings", "."], ["VERB", "PUNCT"])]
    assert read(tmp_path, plain) == expected
    assert read(tmp_path, plain.rstrip("\n")) == expected
    assert read(tmp_path, plain.replace("\n", "\r\n")) == expected
    assert read(tmp_path, "\ufeff\n \n" + plain.replace("\n", " \t\n") + "\n\n") == expected


@pytest.mark.parametrize("rest", ["\tO\n\n", "\tO\n", " -X- -X- O\n\n", "\n"])
def test_the_line_that_begins_a_document_is_no_word(tmp_path, rest):
    assert read(tmp_path, f"-DOCSTART-{rest}EU\tB-ORG\n-DOCSTART-{rest}UN\tB-ORG\n") == [
        (["EU"], ["B-ORG"]),
        (["UN"], ["B-ORG"]),
    ]


def test_tokens_may_be_empty_or_white_space(tmp_path):
    assert read(tmp_path, "\tX\n\u00a0\tPUNCT\n \tX\n6\u00a0000\tNUM\n\u2028\tX\nde\t_\n") == [
        (["", "\u00a0", " ", "6\u00a0000", "\u2028", "de"], ["X", "PUNCT", "X", "NUM", "X", None])
    ]


def test_the_language_before_each_token_of_wikiann_is_no_part_of_it(tmp_path):
    assert read(tmp_path, "en:London\tB-LOC\nen::\tO\n\nen:\tO\n") == [
        (["London", ":"], ["B-LOC", "O"]),
        ([""], ["O"]),
    ]
    assert read(tmp_path, "zh-classical:孔\tB-PER\n") == [(["孔"], ["B-PER"])]


def test_files_of_several_languages_may_be_one(tmp_path):
    assert read(tmp_path, "en:London\tB-LOC\n\nde:Bonn\tB-LOC\nde:re:\tO\n") == [
        (["London"], ["B-LOC"]),
        (["Bonn", "re:"], ["B-LOC", "O"]),
    ]


def test_a_token_without_the_language_that_others_have_is_refused(tmp_path):
    message = "a.tsv:3: 'Bonn' does not begin with a language and a colon, as 2 of 3 tokens of the file do"
    with pytest.raises(UserError, match=message):
        read(tmp_path, "en:London\tB-LOC\n\nBonn\tB-LOC\nen:re:\tO\n")


@pytest.mark.parametrize("header", ["token\tlabel", "word\ttag\n", "FORM\tUPOS"])
def test_a_header_is_no_word(tmp_path, header):
    assert read(tmp_path, f"{header}\nthe\tDET\n") == [(["the"], ["DET"])]


def test_quotes_of_pandas_are_taken_off(tmp_path):
    assert read(tmp_path, '""""\tPUNCT\n"\tPUNCT\n"x"\tX\n') == [(['"', '"', '"x"'], ["PUNCT", "PUNCT", "X"])]


def test_a_word_with_a_colon_is_no_language(tmp_path):
    assert read(tmp_path, "re:\tADP\nsea\tNOUN\n") == [(["re:", "sea"], ["ADP", "NOUN"])]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "the\tDET\nsea\n", "a.tsv:2: has one column"),
        ("a.tsv", "the DET\n", "a.tsv:1: has one column"),
        (
            "a.tsv",
            "-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\n",
            r"a.tsv:3: has one column, because spaces .* `awk 'NF .*`",
        ),
        ("a.conll", CONLLU, r"a.conll:1: has one column; .*CoNLL-U ends in .conllu"),
        ("a.tsv", "the\t \n", "a.tsv:1: has one column"),
        ("a.tsv", "the\tDET\n\nsea\tNOUN\tO\n", "a.tsv:3: has 3 columns"),
        ("a.tsv", "token\tlabel\n", "a.tsv: has only a header"),
        ("a.conllu", "1\tthe\tthe\n", "a.conllu:1: has 3 columns instead of 10"),
        ("a.conllu", "# text\n\nthe\n", "a.conllu:3: is not a valid line of CoNLL-U"),
        ("a.conllu", "x\tthe\t_\tDET\n", "a.conllu:1: is not a valid line of CoNLL-U"),
        (
            "a.conllu",
            CONLLU.replace("\t", "  "),
            "a.conllu:3: is not a valid line of CoNLL-U, because its first column is '1-2  Du",
        ),
        ("a.conllu", CONLLU.replace("de\tde", "de\tde\tde"), "a.conllu:4: has 11 columns instead of 10"),
        ("a.conllu", CONLLU.replace("ADP", ""), "a.conllu:4: column 4, UPOS, is empty"),
        ("a.conllu", "# text = the\n", "a.conllu: has no words"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content, name)


# Words with control characters, or that look like UTF-7 (`+...-`), are refused as another encoding. Quotes may be read
# as those around a field, and colons as those after a language.
WORD = st.text(st.characters(exclude_characters='+~":', exclude_categories=["Cs", "Cc"]))


@given(st.lists(st.lists(st.tuples(WORD, st.sampled_from(["NOUN", "B-PER", "O"])), min_size=1), min_size=1))
def test_what_is_written_is_read(tmp_path_factory, sentences):
    text = "\n\n".join("\n".join(f"{word}\t{label}" for word, label in sentence) for sentence in sentences)
    # A byte order mark in the file's first word would be read as a real one.
    text = f"First\tX\nof\tX\n\n{text}"
    folder = tmp_path_factory.mktemp("words")
    assert read(folder, text)[1:] == [
        ([word for word, _ in sentence], [label for _, label in sentence]) for sentence in sentences
    ]


SHARED = ROOT.parent / "shared" / "data" / "udpos"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the treebanks of ../shared are not here")
def test_real_treebanks_are_read():
    for file in sorted(SHARED.glob("*.tsv")):
        sentences = read_sentences([str(file)])
        lines = file.read_text(encoding="utf-8").split("\n")
        assert sum(len(sentence.words) for sentence in sentences) == sum("\t" in line for line in lines)
        assert len(sentences) > 300
