"""The files of a tokenizer in the Hugging Face layout, read from an untrusted folder."""

import json
import os

from fsspec.implementations.local import LocalFileSystem

from schemas.errors import UserError, first_line
from schemas.storage import filesystem, join, reaching

TOKENIZER_FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
# All files that `save_pretrained` writes for a fast tokenizer; other files in the folder are not read.
_FILES = (TOKENIZER_FILE, CONFIG_FILE, "special_tokens_map.json", "added_tokens.json")
# About ten times the size of the largest published ones.
_MOST_BYTES = 2**29


def read_tokenizer_files(folder: str) -> dict[str, bytes]:
    """Returns the content of each file of the tokenizer in `folder` (a path or URL), by name.

    Raises:
      UserError: there is no tokenizer, a file is too large or is a link to another folder, or the tokenizer names
        Python code.
    """
    fs, root = filesystem(folder)
    files = {}
    try:
        with reaching(folder):
            for name in _FILES:
                path = join(root, name)
                if not fs.exists(path):
                    continue
                if isinstance(fs, LocalFileSystem) and os.path.realpath(path) != join(os.path.realpath(root), name):
                    raise UserError(
                        f"{join(folder, name)}: is a link to a file elsewhere; replace the link with the file"
                    )
                if fs.size(path) > _MOST_BYTES:
                    raise UserError(
                        f"{join(folder, name)}: has more than {_MOST_BYTES:,} bytes, too many for a tokenizer"
                    )
                files[name] = fs.cat_file(path)
    except OSError as error:
        raise UserError(
            f"{folder}: the tokenizer cannot be read ({first_line(error)}); rerun the pipeline that wrote it"
        ) from None
    if missing := [name for name in _FILES[:2] if name not in files]:
        raise UserError(f"{folder}: no tokenizer ({missing[0]} is missing); rerun the pipeline that wrote it")
    if "auto_map" in read_settings(folder, files):
        raise UserError(
            f"{join(folder, CONFIG_FILE)}: refers to Python code (`auto_map`), which is never run; "
            "remove that entry, or rerun the pipeline that wrote the folder"
        )
    return files


def read_settings(folder: str, files: dict[str, bytes]) -> dict:
    """Returns the content of `tokenizer_config.json`. Raises UserError if it is not a tokenizer's JSON object."""
    try:
        settings = json.loads(files[CONFIG_FILE])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{join(folder, CONFIG_FILE)}: not JSON ({first_line(error)})") from None
    if not isinstance(settings, dict):
        raise UserError(f"{join(folder, CONFIG_FILE)}: not a JSON object")
    # transformers does not check these two, and fails when it uses them.
    for name, expected in (("tokenizer_class", str), ("model_max_length", int | float)):
        if not isinstance(settings.get(name), expected | None):
            raise UserError(
                f"{join(folder, CONFIG_FILE)}: {name} is {str(settings[name])[:50]!r}, which no tokenizer has; correct it"
            )
    return settings
