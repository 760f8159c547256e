"""Real text in many scripts, from packages that pip installs: Django's translations, and Bible editions."""

import re
from pathlib import Path

import django

from examples.demo.corpora import read_edition

# One edition of the Bible wheel (`examples.demo.corpora`) for each of six scripts.
EDITIONS = {"en": "4", "ru": "r", "ar": "y", "hi": "i", "zh": "c", "ja": "j"}
_MESSAGE = re.compile(r'^msgstr(?:\[\d\])? ((?:"(?:[^"\\]|\\.)*"\s*)+)', re.MULTILINE)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


def translations(language: str) -> list[str]:
    """Returns the distinct messages of Django's translation into `language`, e.g. `ru` or `zh_Hans`."""
    lines: dict[str, None] = {}
    for file in sorted(Path(django.__file__).parent.rglob(f"locale/{language}/LC_MESSAGES/*.po")):
        for message in _MESSAGE.findall(file.read_text(encoding="utf-8")):
            text = "".join(_STRING.findall(message)).replace("\\n", " ").replace('\\"', '"')
            if len(text) > 1 and not text.startswith("Project-Id-Version"):
                lines[text] = None
    return list(lines)


def verses(language: str, downloads: Path) -> list[str]:
    """Returns about 31,000 verses; downloads them with pip the first time."""
    return [text for _, _, text in read_edition(downloads, EDITIONS[language]) if text.strip()]
