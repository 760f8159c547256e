"""TSV of sentences and labels."""

import pytest

from schemas.errors import UserError
from trainer.evaluation.formats.sentences import read_labelled_texts


def read(tmp_path, *contents: str):
    files = []
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.tsv").write_bytes(content.encode())
        files.append(str(tmp_path / f"{number}.tsv"))
    return [(example.texts, example.label) for example in read_labelled_texts(files)]


def test_pairs_of_xnli_and_pawsx_are_read(tmp_path):
    assert read(tmp_path, 'You don\'t "know".\tI do.\tcontradiction\n\nYes\tYes\tentailment', "a\tb\tneutral\r\n") == [
        (('You don\'t "know".', "I do."), "contradiction"),
        (("Yes", "Yes"), "entailment"),
        (("a", "b"), "neutral"),
    ]


def test_a_header_is_no_example(tmp_path):
    assert read(tmp_path, "\ufeffsentence\tlabel\r\ngood\t1\r\nlabel\tlabel\n") == [
        (("good",), "1"),
        (("label",), "label"),
    ]


def examples(count: int = 60) -> str:
    return "".join(f"{('good', 'bad')[number % 2]} thing {number}\t{number % 2}\n" for number in range(count))


def test_labels_in_the_first_column_are_refused(tmp_path):
    turned = "".join("\t".join(line.split("\t")[::-1]) + "\n" for line in examples().splitlines())
    with pytest.raises(UserError, match="60 different values in the last column and 2 in the first; the label must be"):
        read(tmp_path, turned)


def test_a_file_of_pandas_is_read(tmp_path):
    assert read(tmp_path, '"He said ""no""."\t"""Yes"""\tx\n"Yes", he said.\t"What?"\tx\n') == [
        (('He said "no".', '"Yes"'), "x"),
        (('"Yes", he said.', '"What?"'), "x"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("good\t1\nbad\n", "0.tsv:2: has one column"),
        ("1\ta\tb\tc\n", "0.tsv:1: has 4 columns"),
        ("good\t1\nbad\tbad\t0\n", r"0.tsv:2: has 3 columns, but .*0.tsv:1 has 2"),
        ("good\t1\n \t0\n", "0.tsv:2: column 1 is empty"),
        ("good\t\n", "0.tsv:1: column 2 is empty"),
        ("sentence\tlabel\n", "0.tsv: has only a header"),
        ("text\tlabel\n1\tgood\tpos\n", "0.tsv:2: has 3 columns, but .*0.tsv:1 has 2"),
        (
            "label\ttext\n",
            r"columns 'label', 'text'; give a sentence or two, and the label last, e.g. `awk .*print \$2, \$1}",
        ),
        ("text\tlabel\tid\n", r"0.tsv:1: looks like a header of the columns 'text', 'label', 'id'; .*print \$1, \$2}"),
        ("ID\ttext\tLabel\n", r"0.tsv:1: looks like a header .*print \$2, \$3}"),
        ("\tsentence1\tsentence2\tlabel\n", r"0.tsv:1: looks like a header .*print \$2, \$3, \$4}"),
        (
            "id\ttext\tsentiment\n",
            "0.tsv:1: looks like a header .*; call its last column `label`, or, if it is an example",
        ),
        ("premise\thypothesis\tclass\n", "0.tsv:1: looks like a header .*; call its last column `label`"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)
