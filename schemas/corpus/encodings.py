"""Recognises files that should be plain UTF-8 text but are not, by their first bytes."""

import codecs
import json
import re
from collections.abc import Collection

from schemas.errors import UserError

HEAD_BYTES = 2**16
_MARKS = [
    (codecs.BOM_UTF32_LE, "UTF-32LE"),
    (codecs.BOM_UTF32_BE, "UTF-32BE"),
    (codecs.BOM_UTF16_LE, "UTF-16LE"),
    (codecs.BOM_UTF16_BE, "UTF-16BE"),
]
# The first bytes of a format, its name, and the ending by which it is recognised, if any.
_FORMATS = [
    (b"PK\x03\x04", "a zip archive", ""),
    (b"%PDF-", "a PDF", ""),
    (b"SQLite format 3\0", "an SQLite database", ""),
    (b"\x1f\x8b", "gzip", ".gz"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst"),
    (b"BZh", "bzip2", ".bz2"),
    (b"\xfd7zXZ\0", "an xz archive", ""),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", ""),
    (b"PAR1", "Parquet", ".parquet"),
    (b"ARROW1", "an Arrow file", ""),
]
# The bytes from 257 on in a tar archive, POSIX's or GNU's. Their NULs tell them from text.
_TAR = (b"ustar\x0000", b"ustar  \0")
# The beginning of a file of markup, its name, and the mend. A line of plain text may begin with a tag, but is not only one.
_MARKUP = [
    (rb'<doc id="[^"\n]*"[^\n]*>\r?\n', "WikiExtractor's <doc> markup", "run WikiExtractor with --json"),
    (
        rb"<\?xml\s[^>]*\?>\s*<[!?\w]|<mediawiki\s+xmlns=",
        "XML",
        "extract its text (a Wikipedia dump's with WikiExtractor --json)",
    ),
]
# A file of one line is taken for JSON lines only if it is at least this long.
_LONG_LINE = 2**13
_JSON_BEGINNING = re.compile(rb'\s*\{\s*"[^"\\]*"\s*:\s*["\[{\dtfn-]')
# Text in these encodings is ASCII except after these escape sequences.
_ESCAPES = [(b"\x1b$)C", "ISO-2022-KR"), (b"\x1b$B", "ISO-2022-JP"), (b"\x1b$@", "ISO-2022-JP")]
# UTF-7 writes non-ASCII letters in base64, between + and -. This does not match a number (+49-...).
_BASE64_LETTERS = re.compile(rb"\+[A-Za-z/+][A-Za-z0-9/+]+(?:[-\s.,;:!?)'\"]|$)")
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
# Line ends, spaces and punctuation of text in any script.
_COMMON = frozenset(" \t\r\n,.0123456789\u3000。，、")
# Alphabets come before it in Unicode.
_FIRST_SYMBOL = "\u2000"
# A file is refused if most of its lines, or many of them, are not UTF-8; otherwise only such lines are rejected.
_MANY_LINES, _MANY_SHARE = 20, 0.2


def check_text(where: str, head: bytes, endings: Collection[str]) -> None:
    """Raises UserError if a file's first bytes are not UTF-8 text, naming the likely encoding or format.

    Args:
      endings: those by which the caller recognises other formats.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            raise _encoded(where, encoding)
    if head[257:265] in _TAR:
        raise UserError(f"{where}: looks like a tar archive, not UTF-8 text; extract its text")
    for escape, encoding in _ESCAPES:
        if escape in head:
            raise _encoded(where, encoding)
    for magic, file_format, ending in _FORMATS:
        if head.startswith(magic) and (magic != b"BZh" or head[4:10] == b"1AY&SY"):
            mend = f", or rename it to end in {ending}" if ending in endings else ""
            raise UserError(f"{where}: looks like {file_format}, not UTF-8 text; extract its text{mend}")
    # The head may end within a character or a line.
    lines = head.split(b"\n")[: -1 if len(head) >= HEAD_BYTES and b"\n" in head else None]
    lines = [line for line in lines if line.strip()]
    broken = sum(not _is_utf8(line) for line in lines)
    controls = len(head) - len(head.translate(None, _CONTROL))
    if len(head) >= 4 and controls > 0.1 * len(head):
        if wide := _wide(head):
            raise _encoded(where, wide)
        raise UserError(f"{where}: looks like a binary file, not UTF-8 text; leave it out, or extract its text")
    if sum(map(_is_utf7, lines)) > len(lines) / 2:
        raise _encoded(where, "UTF-7")
    if broken > len(lines) / 2 or (broken >= _MANY_LINES and broken > _MANY_SHARE * len(lines)):
        raise _encoded(where, _wide(head) or _legacy(head))


def check_plain(where: str, head: bytes) -> None:
    """Raises UserError if a file's first bytes are JSON lines, XML or WikiExtractor's markup, not plain text."""
    head = head.removeprefix(codecs.BOM_UTF8)
    for pattern, markup, mend in _MARKUP:
        if re.match(pattern, head):
            raise UserError(f"{where}: looks like {markup}, not plain text; {mend}")
    *lines, last = [line for line in head.split(b"\n") if line.strip()] or [b""]
    # The head may end within the last line.
    is_long_enough = lines or len(head) >= _LONG_LINE
    if is_long_enough and all(map(_is_json_object, lines)) and _JSON_BEGINNING.match(last):
        raise UserError(
            f"{where}: has a JSON object on every line, not plain text; let its name end in .jsonl (compressed: .jsonl.gz)"
        )


def _is_json_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _encoded(where: str, encoding: str) -> UserError:
    return UserError(
        f"{where}: looks like {encoding}, not UTF-8; convert it, e.g. `iconv -f {encoding} -t UTF-8 OLD > NEW`, "
        "and check that its letters are right"
    )


def _is_utf8(line: bytes) -> bool:
    try:
        # The cut of the head may split the last character.
        codecs.getincrementaldecoder("utf-8")().decode(line)
    except UnicodeDecodeError:
        return False
    return True


def _is_utf7(line: bytes) -> bool:
    """Whether a line is ASCII with non-ASCII letters in the base64 of UTF-7."""
    if not (line.isascii() and _BASE64_LETTERS.search(line)):
        return False
    try:
        return any(character.isalpha() and not character.isascii() for character in line.decode("utf-7"))
    except UnicodeDecodeError:
        return False


def _wide(head: bytes) -> str | None:
    """Detects UTF-16 or UTF-32 without a byte order mark, by code units of line ends, spaces and letters of alphabets.

    These have a byte that is a control character in ASCII. Without one, the bytes of a legacy encoding could be read as
    Chinese.
    """
    if head == head.translate(None, _CONTROL):
        return None
    likely = []
    for encoding, width in (("UTF-32LE", 4), ("UTF-32BE", 4), ("UTF-16LE", 2), ("UTF-16BE", 2)):
        whole = head[: len(head) // width * width]
        try:
            text = whole.decode(encoding, "strict" if width == 4 else "ignore")
        except UnicodeDecodeError:
            continue
        plain = sum(character.isprintable() or character in _COMMON for character in text)
        common = sum(character in _COMMON for character in text)
        is_alphabetic = len(set(text)) > 1 and max(text) < _FIRST_SYMBOL
        if plain > 0.95 * len(text) and (common or is_alphabetic):
            likely.append((common, plain, encoding))
    return max(likely)[-1] if likely else None


def _legacy(head: bytes) -> str:
    """The most likely single- or multi-byte encoding. This is a guess, so the message says `looks like`."""
    high = [byte for byte in head if byte >= 0x80]

    def share(first: int, last: int) -> float:
        return sum(first <= byte <= last for byte in high) / max(1, len(high))

    for encoding, script, least in (
        ("EUC-JP", "\u3040-\u30ff", 0.2),
        ("SHIFT_JIS", "\u3040-\u30ff", 0.2),
        ("EUC-KR", "\uac00-\ud7a3", 0.9),
    ):
        text = re.sub(r"[\x00-\x7f]", "", head.decode(encoding, "replace"))
        has_script = len(re.findall(f"[{script}]", text)) > least * len(text)
        if len(high) > 0.3 * len(head) and has_script and text.count("\ufffd") < 0.02 * len(text):
            return encoding
    if len(high) < 0.3 * len(head):
        return "WINDOWS-1252"
    if share(0xE0, 0xFF) > 0.6:
        return "WINDOWS-1251"
    if share(0xC0, 0xDF) > 0.75:
        return "KOI8-R"
    text = head.decode("gb18030", "replace")
    return "GB18030" if text.count("\ufffd") < 0.02 * len(text) else "WINDOWS-1252"
