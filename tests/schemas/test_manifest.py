"""Folders that are opened together: each of them once, however it is written."""

import json

import pytest

from schemas.errors import UserError
from schemas.manifest import MANIFEST_FILE, open_predictions
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


@pytest.mark.heavy
def test_readers_refuse_a_mismatch_with_both_values(run_pipeline, tmp_path):
    folder = run_pipeline(tmp_path / "p", max_length=16)
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    right = manifest["vocabulary"]["sha256"]

    def write(**changes):
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest | changes))

    write(vocabulary={"size": 1, "sha256": "f00"})
    with pytest.raises(UserError, match=f"{right}.*f00"):
        open_predictions(str(folder))
    write(schema_version=99)
    with pytest.raises(UserError, match="99.*3"):
        open_predictions(str(folder))
    write()
    (folder / manifest["files"][0]["path"]).unlink()
    with pytest.raises(UserError, match="missing"):
        open_predictions(str(folder))
    (folder / MANIFEST_FILE).unlink()
    with pytest.raises(UserError, match="not found"):
        open_predictions(str(folder))
