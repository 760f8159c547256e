"""The listing of a language's files, `_text/<language>.parquet`: what the launcher found, for workers and for reruns.

| column        | type        | meaning                                                                |
| ------------- | ----------- | ---------------------------------------------------------------------- |
| `source`      | string      | the file's name in example ids                                          |
| `url`         | string      | its location; null if that holds a secret, so that readers find it again |
| `size`        | int64       | bytes                                                                  |
| `version`     | string      | by which its storage identifies this version of the file               |
| `fingerprint` | string      | of its content: from its storage, or else its sha256                   |
| `counts`      | list<int64> | records in each of its ranges, if they were counted                    |
"""

import hashlib
import io
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import PipelineConfig
from pipeline.text.corpus import Corpus
from schemas.corpus.files import TextFile, find_files
from schemas.errors import UserError, first_line
from schemas.secrets import without_secrets
from schemas.storage import join, read_bytes, write_bytes

TEXT_FOLDER = "_text"
_UNIT_BYTES = "mergedistill.unit_bytes"
_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("url", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
        ("fingerprint", pa.string()),
        ("counts", pa.list_(pa.int64())),
    ]
)


def listing_path(language: str) -> str:
    """The path of a language's listing, relative to the output folder."""
    return f"{TEXT_FOLDER}/{language}.parquet"


def write_corpus(config: PipelineConfig, language: str, corpus: Corpus) -> None:
    """Writes the listing of a language."""
    columns = {
        "source": [file.source for file in corpus.files],
        "url": [file.url if without_secrets(file.url) == file.url else None for file in corpus.files],
        "size": [file.size for file in corpus.files],
        "version": [file.version for file in corpus.files],
        "fingerprint": corpus.fingerprints,
        "counts": pa.nulls(len(corpus.files)) if corpus.counts is None else corpus.counts,
    }
    buffer = io.BytesIO()
    schema = _SCHEMA.with_metadata({_UNIT_BYTES: str(corpus.unit_bytes)})
    pq.write_table(pa.table(columns, schema), buffer, compression="zstd")
    write_bytes(join(config.output, listing_path(language)), buffer.getvalue())


def read_corpus(config: PipelineConfig, language: str, listed: Sequence[TextFile] | None = None) -> Corpus:
    """Reads the corpus from its listing. Raises UserError if the listing is missing or invalid.

    Args:
      listed: the language's files, if they were already searched for.
    """
    url = join(config.output, listing_path(language))
    try:
        table = pq.read_table(io.BytesIO(read_bytes(url)), use_threads=False)
        unit_bytes = int((table.schema.metadata or {}).get(_UNIT_BYTES.encode(), b"0"))
        table = table.cast(_SCHEMA)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(
            f"{url}: not a valid listing of the text ({first_line(error)}); run the pipeline again"
        ) from None
    columns = {name: table[name].to_pylist() for name in table.column_names}
    text = config.text[language]
    if None in columns["url"]:
        listed = find_files(language, text.files, text.field) if listed is None else listed
        urls = {file.source: file.url for file in listed}
        if missing := [source for source in columns["source"] if source not in urls]:
            raise UserError(
                f"text.{language}: {missing[0]} is no longer among its files; start again with a new output"
            )
        columns["url"] = [urls[source] for source in columns["source"]]
    files = [
        TextFile(url, source, text.field, size, version)
        for url, source, size, version in zip(
            *(columns[name] for name in ("url", "source", "size", "version")), strict=True
        )
    ]
    corpus = Corpus.of(files, config.shard_bytes)
    # Counts for ranges of another size are useless.
    is_counted = None not in columns["counts"] and unit_bytes == corpus.unit_bytes
    return corpus.surveyed(columns["fingerprint"], columns["counts"] if is_counted else None)


def names_digest(files: Sequence[TextFile]) -> str:
    """Returns the sha256 of the files' names and sizes."""
    return _digest(f"{file.source}\t{file.size}" for file in files)


def content_digest(corpus: Corpus) -> str:
    """Returns the sha256 of the fingerprints of the files' content."""
    return _digest(corpus.fingerprints)


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
