"""Token identity: when do two teachers' tokens count as one?

Tokens count as one if they stand for the same bytes at the same place in a word. Each
family writes tokens in a different way. These are the rules (`␣` is a space):

| merged token       | bytes   | WordPiece | Unigram  | byte-level BPE | `</w>` BPE | why                       |
| ------------------ | ------- | --------- | -------- | -------------- | ---------- | ------------------------- |
| word `▁the`        | `the`   | `the`     | `▁the`   | `Ġthe`         | `the</w>`  | starts a word             |
| continuation `ing` | `ing`   | `##ing`   | `ing`    | `ing`          | `ing`      | goes on with a word       |
| continuation `the` | `the`   | `##the`   | `the`    | `the`          | `the`      | mid-word: not `▁the`      |
| continuation `,`   | `,`     | `,`       | `,`      | `,`            | `,</w>`    | see *isolated* below      |
| word `▁,`          | `,`     | -         | `▁,`     | `Ġ,`           | -          | a comma after a space     |
| continuation `我`  | `我`    | `我`      | `我`     | `æĪĳ`          | `我</w>`   | see *isolated* below      |
| literal `##,`      | -       | `##,`     | -        | -              | -          | BERT's pre-tokenizer never makes it|
| literal `,`        | -       | -         | -        | -              | `,`        | a mark that ends no word: never made|
| word `▁`           | (none)  | -         | `▁`      | `Ġ`            | -          | a lone space              |
| word `▁▁`          | `␣`     | -         | `▁▁`     | `ĠĠ`           | -          | two spaces                |
| continuation `<0xE6>` | `E6` | -         | `<0xE6>` | `æ`            | -          | a byte that is no whole character |
| `<mask>` (a role)  | -       | `[MASK]`  | `<mask>` | `<mask>`       | `<mask>`   | special tokens unify by role |
| literal `[unused7]`| -       | `[unused7]`| -       | -              | -          | only its string is known  |

A byte-level WordPiece without `##` (HPLT's BERTs) follows the rules of byte-level BPE.

`</w>` marks where a word *ends*, not where it starts: `the</w>` is the word, or the end of a
longer one; `the` starts a word or is inside one. Each unifies with its most common use:
`the</w>` with the whole word, because common words are one token, and `the`, which is never
a whole word, with the continuation. So every word that a teacher keeps whole is one token for
all teachers, and each letter has both forms.

Vocabularies of words (WordLevel) follow WordPiece's rules. In vocabularies of characters (ESM's
amino acids), tokens are continuations, because no space is between them; longer tokens are literal.

A BPE that writes spaces as `▁` but does not add one before a text (Gemma, mmBERT) uses the
continuation for a text's first word, like byte-level BPE without a prefix space.

*Isolated* characters: BERT's pre-tokenizer makes every punctuation mark and every Chinese
character its own word, so a WordPiece `,` or `我` does not show whether a space was
before it. In running text, nearly all of them have no space before them, so they unify
with the form without a space. (For an opening bracket or quote, that is the rarer form.
One rule for all was preferred to a list.) Their `##` forms are never emitted and stay
literal, so that the map is injective.

A SentencePiece byte piece below `<0x80>` is a whole character and would collide with
the piece of that character, so such pieces stay literal.

With `token_identity: string`, none of this applies: tokens count as one if their strings are
equal (special tokens still unify by role).
"""

import re
import unicodedata
from typing import NamedTuple

from pipeline.teachers.family import (
    BYTE_LEVEL,
    CHARACTERS,
    SENTENCEPIECE,
    SPACE_MARK,
    WORD_END,
    WORD_END_MARK,
    WORD_LEVEL,
    WORDPIECE,
)
from schemas.vocabulary import CONTINUATION, LITERAL, WORD

_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_BYTES_ONLY = re.compile(r"(?:<0x[0-9A-F]{2}>)+")
# The blocks that BERT's reference tokenizer calls Chinese characters.
CHINESE = [
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
]  # fmt: skip


HAN = "".join(f"{chr(first)}-{chr(last)}" for first, last in CHINESE)  # for a regular expression's class


class Identity(NamedTuple):
    """The key by which tokens unify: a role (`schemas.vocabulary`: `word`, `continuation`, `literal` or a special one)
    and the bytes that the token stands for (for a `literal`, the teacher's string)."""

    role: str
    surface: bytes


def byte_alphabet() -> dict[str, int]:
    """Returns the 256 characters by which byte-level BPE writes bytes (GPT-2's `bytes_to_unicode`).

    Printable Latin-1 characters stand for themselves; the rest are, in order, the
    characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_ALPHABET = byte_alphabet()


def is_chinese(character: str) -> bool:
    """Whether BERT's reference tokenizer calls `character` a Chinese character."""
    return any(first <= ord(character) <= last for first, last in CHINESE)


def is_isolated(text: str) -> bool:
    """Whether `text` is one character that BERT's pre-tokenizer always makes its own word."""
    if len(text) != 1:
        return False
    code = ord(text)
    ascii_punctuation = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return ascii_punctuation or unicodedata.category(text).startswith("P") or is_chinese(text)


def wordpiece_identity(token: str) -> Identity:
    """Returns the identity of a WordPiece token (`##` marks continuations)."""
    text = token.removeprefix("##") if len(token) > 2 else token
    if text == token:
        return Identity(CONTINUATION if is_isolated(text) else WORD, text.encode())
    if is_isolated(text):
        return Identity(LITERAL, token.encode())
    return Identity(CONTINUATION, text.encode())


def sentencepiece_identity(token: str) -> Identity:
    """Returns the identity of a SentencePiece token, Unigram or BPE (`▁` marks spaces)."""
    if byte := _BYTE_PIECE.fullmatch(token):
        value = int(byte[1], 16)
        return Identity(CONTINUATION, bytes([value])) if value >= 0x80 else Identity(LITERAL, token.encode())
    role = WORD if token.startswith(SPACE_MARK) else CONTINUATION
    return Identity(role, token.removeprefix(SPACE_MARK).replace(SPACE_MARK, " ").encode())


def byte_level_identity(token: str) -> Identity:
    """Returns the identity of a byte-level BPE token; literal if it has characters outside the byte alphabet."""
    if not all(character in _ALPHABET for character in token):
        return Identity(LITERAL, token.encode())
    surface = bytes(_ALPHABET[character] for character in token)
    return Identity(WORD, surface[1:]) if surface.startswith(b" ") else Identity(CONTINUATION, surface)


def word_end_identity(token: str) -> Identity:
    """Returns the identity of a token of a BPE that marks where words end (`</w>`)."""
    text = token.removesuffix(WORD_END_MARK)
    if not text:
        return Identity(LITERAL, token.encode())
    if text == token:
        return Identity(LITERAL if is_isolated(text) else CONTINUATION, text.encode())
    return Identity(CONTINUATION if is_isolated(text) else WORD, text.encode())


def word_level_identity(token: str) -> Identity:
    """Returns the identity of a token that is a whole word."""
    return Identity(CONTINUATION if is_isolated(token) else WORD, token.encode())


def character_identity(token: str) -> Identity:
    """Returns the identity of a token of a vocabulary of characters."""
    return Identity(CONTINUATION if len(token) == 1 else LITERAL, token.encode())


def string_identity(token: str) -> Identity:
    """Returns plain string identity, for any family."""
    return Identity(LITERAL, token.encode())


FAMILIES = {
    WORDPIECE: wordpiece_identity,
    SENTENCEPIECE: sentencepiece_identity,
    BYTE_LEVEL: byte_level_identity,
    WORD_END: word_end_identity,
    WORD_LEVEL: word_level_identity,
    CHARACTERS: character_identity,
}


def display(identity: Identity) -> str:
    """Returns a token's written form in the merged vocabulary. Together with its role, it is unique.

    Surfaces that are not valid UTF-8, or that could be read as something else, are
    written byte by byte.
    """
    role, surface = identity
    if role not in (WORD, CONTINUATION):
        return surface.decode()
    try:
        text = surface.decode()
        plain = SPACE_MARK not in text and not _BYTES_ONLY.fullmatch(text)
        text = text.replace(" ", SPACE_MARK)
        # A leading space in a continuation would read as a word.
        plain = plain and not (role == CONTINUATION and text.startswith(SPACE_MARK))
    except UnicodeDecodeError:
        plain = False
    if not plain:
        text = "".join(f"<0x{byte:02X}>" for byte in surface)
    return SPACE_MARK + text if role == WORD else text


def parse(role: str, written: str) -> Identity:
    """Returns the identity that `display` wrote: `parse(i.role, display(i)) == i`."""
    if role not in (WORD, CONTINUATION):
        return Identity(role, written.encode())
    text = written.removeprefix(SPACE_MARK) if role == WORD else written
    if _BYTES_ONLY.fullmatch(text):
        return Identity(role, bytes(int(value, 16) for value in _BYTE_PIECE.findall(text)))
    return Identity(role, text.replace(SPACE_MARK, " ").encode())
