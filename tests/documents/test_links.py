"""Every relative link points to a file and, after `#`, to one of its headings; README.md is short."""

import re

import pytest

from tests.support.documents import PAGES, prose
from tests.support.paths import ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked():
    """The index of a page's folder links it; README.md links docs/index.md."""
    for page in PAGES:
        index = page.parent / ("README.md" if page.parent == ROOT else "index.md")
        if page not in (index, ROOT / "README.md"):
            assert page.name in {link.partition("#")[0] for link in LINK.findall(prose(index))}, page
    assert "docs/index.md" in LINK.findall(prose(ROOT / "README.md"))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
