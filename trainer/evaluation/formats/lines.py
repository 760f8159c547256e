"""Lines of UTF-8 files, local or at a URL, compressed or not."""

import codecs

import pyarrow as pa

from schemas.corpus.encodings import HEAD_BYTES, check_text
from schemas.corpus.files import CODECS, TextFile
from schemas.errors import UserError, first_line
from schemas.secrets import without_secrets
from schemas.storage import read_bytes


def read_text(file: str) -> str:
    """Returns the text of a file without its byte order mark; line ends are unchanged.

    A file whose name ends as a compressed text file of the pipeline is unpacked.

    Raises:
      UserError: the file does not exist, cannot be unpacked, is empty, or is not UTF-8.
    """
    shown = without_secrets(file)
    try:
        content = read_bytes(file)
        if codec := TextFile(file, file).codec:
            content = pa.CompressedInputStream(pa.BufferReader(content), codec).read()
    except FileNotFoundError:
        raise UserError(f"{shown}: there is no such file; correct the path") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{shown}: cannot be read ({first_line(error)})") from None
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content.strip():
        raise UserError(f"{shown}: is empty; give a file with examples, or leave it out")
    check_text(shown, content[:HEAD_BYTES], CODECS)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{shown}:{line}: is not UTF-8; convert the file to UTF-8") from None


def read_lines(file: str) -> list[str]:
    r"""Returns the lines of a file without their ends (`\n`, `\r\n`) and without empty lines at the end of the file.

    Other characters that Python's `splitlines` would split at, such as U+2028, are part of the text.

    Raises:
      UserError: as for `read_text`.
    """
    lines = [line.removesuffix("\r") for line in read_text(file).split("\n")]
    while not lines[-1]:
        lines.pop()
    return lines
