"""Sentences of labelled words: CoNLL-U (files ending in `.conllu`) and token TSV."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from schemas.corpus.files import TextFile
from schemas.errors import UserError
from schemas.secrets import without_secrets
from trainer.evaluation.formats.columns import Row, check_label_column, check_quotes, fields_of
from trainer.evaluation.formats.headers import is_header
from trainer.evaluation.formats.lines import read_lines

# The id of a word, of a multiword token (`1-2`) or of an empty node (`3.1`).
_CONLLU_ID = re.compile(r"[0-9]+([-.][0-9]+)?")
_CONLLU_COLUMNS = 10
# Universal Dependencies write this for a missing value.
_NO_VALUE = "_"
# The prefix of each token in XTREME's WikiANN: `en:London`.
_LANGUAGE = re.compile(r"[a-z][a-z-]*:")
# CoNLL-2003 begins each document with such a line.
_DOCUMENT = re.compile(r"-DOCSTART-(\s|$)")
_BLANKS = " \t"


@dataclass(frozen=True)
class Sentence:
    """A sentence of W words.

    Attributes:
      words: may be empty or white space, as in some files.
      labels: None where the file has `_`: such a word is context, and is neither learned nor scored.
      file, lines: where each word comes from.
    """

    words: list[str]
    labels: list[str | None]
    file: str
    lines: list[int]

    def where(self, word: int) -> str:
        """Returns a word's `file:line`, for messages."""
        return f"{self.file}:{self.lines[word]}"

    def rows(self) -> Iterator[Row]:
        """Yields its lines of a TSV file; none of CoNLL-U, which has no header."""
        if not _is_conllu(self.file):
            for word, label, line in zip(self.words, self.labels, self.lines, strict=True):
                yield Row(self.file, line, (word, label or _NO_VALUE))


def read_sentences(files: Sequence[str]) -> list[Sentence]:
    """Returns the sentences of some files, in their order.

    A file whose name ends in `.conllu`, compressed or not, is CoNLL-U: its words are the lines whose id is an integer (not
    the ranges of multiword tokens, nor empty nodes), and their labels are the UPOS column. Any other file is TSV
    (`fields_of`): token, tab, label; a blank line ends a sentence, and so does `-DOCSTART-`. A first line whose label is a
    name such as `label` or `tag` is a header. If every token of a TSV file begins with a language such as `en:`, as in
    XTREME's WikiANN, that prefix is removed; one file may have several languages.

    Raises:
      UserError: a file is missing, empty, not UTF-8, or has a line of another form; or most but not all tokens begin with a
        language.
    """
    return [sentence for file in files for sentence in (_read_conllu if _is_conllu(file) else _read_tsv)(file)]


def _is_conllu(file: str) -> bool:
    return TextFile(file, file).content_name.endswith(".conllu")


def _read_conllu(file: str) -> list[Sentence]:
    shown = without_secrets(file)
    sentences = []
    for start, block in _blocks(read_lines(file)):
        words, labels, lines = [], [], []
        for number, line in enumerate(block, start):
            if line.startswith("#"):
                continue
            columns = line.split("\t")
            if not _CONLLU_ID.fullmatch(columns[0]):
                raise UserError(
                    f"{shown}:{number}: is not a valid line of CoNLL-U, because its first column is {columns[0][:50]!r}; begin it with "
                    f"the word's number, and separate its {_CONLLU_COLUMNS} columns by tabs"
                )
            if not columns[0].isdecimal():
                continue
            if len(columns) != _CONLLU_COLUMNS:
                raise UserError(
                    f"{shown}:{number}: has {len(columns)} columns instead of {_CONLLU_COLUMNS}; separate them by tabs, with _ "
                    "where there is no value"
                )
            upos = columns[3].strip()
            if not upos:
                raise UserError(
                    f"{shown}:{number}: column 4, UPOS, is empty; write the part of speech, or _ without one"
                )
            words.append(columns[1])
            labels.append(upos if upos != _NO_VALUE else None)
            lines.append(number)
        if words:
            sentences.append(Sentence(words, labels, shown, lines))
    if not sentences:
        raise UserError(f"{shown}: has no words; give a file with annotated sentences")
    return sentences


def _read_tsv(file: str) -> list[Sentence]:
    shown = without_secrets(file)
    content = ["" if _DOCUMENT.match(line) else line for line in read_lines(file)]
    check_quotes(shown, content[0])
    if is_header(fields_of(content[0])):
        content[0] = ""
    sentences, rows = [], []
    for start, block in _blocks(content):
        words, labels, lines = [], [], []
        for number, line in enumerate(block, start):
            # A token may be white space, but a label may not.
            word, *rest = fields_of(line)
            columns = [column.strip() for column in rest]
            while len(columns) > 1 and not columns[-1]:
                columns.pop()
            if len(columns) != 1 or not columns[0]:
                raise UserError(f"{shown}:{number}: {_fault(word, columns)}")
            words.append(word)
            labels.append(columns[0] if columns[0] != _NO_VALUE else None)
            lines.append(number)
            rows.append((word, columns[0]))
        sentences.append(Sentence(words, labels, shown, lines))
    if not sentences:
        raise UserError(f"{shown}: has only a header; give a file with labelled tokens")
    check_label_column(shown, rows)
    return _without_language(sentences)


def _fault(word: str, columns: list[str]) -> str:
    """What is wrong with a line whose columns are not a word and a label, and the mend."""
    if not columns and " " in word.strip() and not word.startswith("#"):
        return (
            "has one column, because spaces separate none; write tabs, e.g. "
            "`awk 'NF {$0 = $1 \"\\t\" $NF} 1' OLD > NEW` for the first column and the last"
        )
    given = "one column" if not any(columns) else f"{len(columns) + 1} columns"
    return (
        f"has {given}; write a token, a tab and a label on each line, and a blank line after each sentence (CoNLL-U ends in "
        ".conllu)"
    )


def _without_language(sentences: list[Sentence]) -> list[Sentence]:
    """Removes the language prefix (`en:`) if all tokens have one. Raises UserError if only most do."""
    lacking = [
        (sentence, word)
        for sentence in sentences
        for word, text in enumerate(sentence.words)
        if not _LANGUAGE.match(text)
    ]
    count = sum(len(sentence.words) for sentence in sentences)
    if len(lacking) >= count / 2:
        return sentences
    if lacking:
        sentence, word = lacking[0]
        raise UserError(
            f"{sentence.where(word)}: {sentence.words[word]!r} does not begin with a language and a colon, as {count - len(lacking)} "
            f"of {count} tokens of the file do; write the language before all tokens, or before none"
        )
    return [
        replace(sentence, words=[_LANGUAGE.sub("", word, count=1) for word in sentence.words]) for sentence in sentences
    ]


def _blocks(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields the blocks of lines between blank ones, each with the number of its first line, from 1."""
    block: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        if line.strip(_BLANKS):
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []
