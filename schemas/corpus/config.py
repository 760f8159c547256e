"""The configuration of a language's text."""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from schemas.config import Config
from schemas.paths import PathOrUrl, PathsOrUrls

# The default size of a shard in the pipeline: a whole book, and no more than a process holds anyway.
MAX_RECORD_BYTES = 4 * 2**20


class TextConfig(Config):
    """One language's text."""

    former_names: ClassVar = {"limit": "max_records"}

    files: PathsOrUrls = Field(
        description="files, folders, globs or fsspec URLs; a name that exists is taken literally, whatever its characters. "
        "The ending of the name, in upper or lower case, decides the format: JSON lines (.jsonl, .ndjson, .json), Parquet "
        "(.parquet), otherwise UTF-8 text with one record per line; text and JSON lines may be .gz, .bz2 or .zst",
    )
    field: str = Field("text", description="the JSON field or Parquet column that holds the text")
    max_records: int | None = Field(
        None, ge=1, description="read only this many records, spread evenly over the files; default: all"
    )


def _as_files(value: Any) -> Any:
    """A bare path or list of files stands for a whole section."""
    return {"files": value} if isinstance(value, str | list) else value


Text = Annotated[
    TextConfig, BeforeValidator(_as_files, json_schema_input_type=TextConfig | PathOrUrl | list[PathOrUrl])
]
