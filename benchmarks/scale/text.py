"""A filesystem that makes up its text files as they are read, and the configuration of a large run over them."""

from typing import Any, ClassVar

import fsspec
from fsspec import AbstractFileSystem

from pipeline.config import PipelineConfig

FILE_BYTES = 100 * 10**6
TEACHERS = 20
_LINE = b"The quick brown fox jumps over the lazy dog, and then it rests for a while.\n"
_PATTERN = _LINE * 1000


class MadeUpText(AbstractFileSystem):
    """`madeup://LANGUAGE-FILES/NUMBER.txt`; counts the bytes that it returns."""

    protocol = "madeup"
    given: ClassVar[int] = 0

    def ls(self, path: str, detail: bool = True, **_: Any) -> list:
        """Lists the files of a language."""
        folder = self._strip_protocol(path).strip("/").partition("/")[0]
        infos = [self.info(f"{folder}/{number:06d}.txt") for number in range(int(folder.partition("-")[2]))]
        return infos if detail else [info["name"] for info in infos]

    def info(self, path: str, **_: Any) -> dict:
        """Returns the size and checksum of a file."""
        path = self._strip_protocol(path).strip("/")
        if "/" not in path:
            return {"name": path, "size": 0, "type": "directory"}
        return {"name": path, "size": FILE_BYTES, "type": "file", "generation": "1", "crc32c": f"{hash(path):x}"}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Returns part of a file."""
        start, end = start or 0, FILE_BYTES if end is None else end
        MadeUpText.given += end - start
        shift = start % len(_LINE)
        repeated = _PATTERN * ((end - start) // len(_PATTERN) + 2)
        return repeated[shift : shift + end - start]


fsspec.register_implementation("madeup", MadeUpText, clobber=True)


def configuration(output: str, files: int, languages: int) -> PipelineConfig:
    """Returns a configuration that splits the files over the languages, and the languages over the teachers."""
    names = [f"l{number:03d}" for number in range(languages)]
    return PipelineConfig(
        output=output,
        teachers={f"t{number:02d}": {"model": "m", "languages": names[number::TEACHERS]} for number in range(TEACHERS)},
        text={name: [f"madeup://{name}-{files // languages}"] for name in names},
    )
