"""Folders that are opened together: each of them once, however it is written."""

import pytest

from schemas.errors import UserError
from schemas.manifest import open_predictions
from schemas.storage import location


@pytest.mark.parametrize("spelling", ["{0}/", "./{1}/", "../{2}/{1}", "link", "file://{0}", "link/."])
def test_one_folder_by_two_spellings_is_refused(predictions, tmp_path, monkeypatch, spelling):
    (tmp_path / "link").symlink_to(predictions)
    monkeypatch.chdir(tmp_path if spelling.startswith("link") else predictions.parent)
    again = spelling.format(predictions, predictions.name, predictions.parent.name)
    with pytest.raises(UserError) as raised:
        open_predictions(str(predictions), again)
    assert str(raised.value) == f"{predictions} and {again}: a folder is given twice"


def test_urls_of_one_place():
    assert location("memory://a/b/") == location("memory:///a/b") == "memory:///a/b"
    assert location("memory://a/b") != location("memory://a/B")
