"""Lines of text that nobody writes but every web crawl has: seeded, some of them not UTF-8."""

import random
import sys
import unicodedata
from collections.abc import Callable, Iterator

from tests.support import world

# Strings that have a meaning in some tokenizer or in our own files.
_MARKS = [
    "[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "<mask>", "<s>", "</s>", "<pad>", "<unk>", "[unused7]", "##ing", "##",
    "▁", "▁▁the", "Ġ", "Ġthe", "Ċ", "</w>", "the</w>", "@@", "<0x41>", "<0xE6>", "<0x00>", "\uffff 7", "\uffff7\uffff", "\uffff",
    "|||EMAIL_ADDRESS|||", "<|endoftext|>", "<|padding|>", "{{", "}}", "\\n", "\\x00", "<!--", "-->", "&nbsp;", "%00",
]  # fmt: skip
_SPACES = [
    " ",
    "  ",
    "\t",
    "\u00a0",
    "\u2003",
    "\u3000",
    "\u200b",
    "\u2028",
    "\u2029",
    "\u0085",
    "\x0b",
    "\x0c",
    "\x1c",
    "\r",
]
_JOINED = [
    "e\u0301",
    "\u0438\u0306",
    "\u09c7\u09be",
    "\u304b\u3099",
    "\u1112\u1161\u11ab",
    "\u0627\u0655",
    "\ufb01",
    "\u1e9b\u0323",
]
_EMOJI = ["😀", "\U0001f469\u200d\U0001f4bb", "❤\ufe0f", "🇮🇳", "👍🏽", "\U0001f3f4\U000e0067\U000e0062\U000e007f"]
_BROKEN = [
    b"\xff",
    b"\xc3",
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xf5\x80\x80\x80",
    b"caf\xe9",
]
_ASSIGNED = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cs", "Cn")]


def _any_characters(source: random.Random) -> str:
    return "".join(chr(source.choice(_ASSIGNED)) for _ in range(source.randint(1, 40)))


def _unassigned(source: random.Random) -> str:
    codes = (source.randrange(sys.maxunicode + 1) for _ in range(source.randint(1, 20)))
    return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)


def _one_script(source: random.Random) -> str:
    first = source.choice(_ASSIGNED) & ~0x7F
    codes = (first + source.randrange(128) for _ in range(source.randint(1, 60)))
    return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)


def _controls(source: random.Random) -> str:
    codes = [*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x202E, 0x2066, 0xFEFF, 0xFFF9]
    return "".join(source.choice(["a", chr(source.choice(codes))]) for _ in range(source.randint(1, 30)))


def _run(source: random.Random) -> str:
    return source.choice(["a", "我", "é", ".", " ", "\u0301", "😀", "\x00", "क्", "<", "[MASK]"]) * source.randint(
        1, 600
    )


def _marks(source: random.Random) -> str:
    parts = source.choices([*_MARKS, *_SPACES, "the", "река", "नदी", "a"], k=source.randint(1, 12))
    return source.choice(["", " "]).join(parts)


def _sentence(source: random.Random) -> str:
    words = source.choices(sum(world.WORDS.values(), []), k=source.randint(1, 30))
    return "".join(word + source.choice(_SPACES) for word in words)


def _composed(source: random.Random) -> str:
    parts = source.choices([*_JOINED, *_EMOJI, *_SPACES, "a", "\u0301", "\u200d", "\ufe0f"], k=source.randint(1, 30))
    text = "".join(parts)
    return unicodedata.normalize(source.choice(["NFC", "NFD", "NFKC", "NFKD"]), text)


_KINDS: list[Callable[[random.Random], str]] = [
    _any_characters, _unassigned, _one_script, _controls, _run, _marks, _sentence, _composed,
]  # fmt: skip


def hostile_lines(seed: int, count: int) -> Iterator[bytes]:
    """Yields `count` lines without line feeds, the same for the same seed; about one in sixteen is not UTF-8."""
    source = random.Random(seed)
    for _ in range(count):
        text = "".join(source.choice(_KINDS)(source) for _ in range(source.choice([0, 1, 1, 1, 2, 3])))
        line = text.replace("\n", " ").encode()
        if source.random() < 1 / 16:
            place = source.randint(0, len(line))
            line = line[:place] + source.choice(_BROKEN) + line[place:]
        yield line
