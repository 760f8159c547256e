"""Folders that are opened together: each is opened once, however its path is written."""

import hashlib
import json
import shutil

import pytest

from schemas.errors import UserError
from schemas.file_table import FILES_FILE
from schemas.manifest import MANIFEST_FILE, Manifest, write_manifest
from schemas.predictions import open_predictions
from schemas.storage import location
from tests.support.damage import read_content


@pytest.mark.parametrize("spelling", ["{0}/", "./{1}/", "../{2}/{1}", "link", "file://{0}", "link/."])
def test_one_folder_by_two_spellings_is_refused(predictions, tmp_path, monkeypatch, spelling):
    (tmp_path / "link").symlink_to(predictions)
    monkeypatch.chdir(tmp_path if spelling.startswith("link") else predictions.parent)
    again = spelling.format(predictions, predictions.name, predictions.parent.name)
    with pytest.raises(UserError) as raised:
        open_predictions(str(predictions), again)
    assert str(raised.value) == f"{predictions} and {again}: the same folder is given twice"


def test_two_teachers_of_one_name_are_refused_in_any_folder(predictions, tmp_path, monkeypatch):
    """Even if the first folder does not have the name."""
    manifest = open_predictions(str(predictions)).manifests[0]
    folders = [str(shutil.copytree(predictions, tmp_path / name)) for name in "abc"]
    without, other = dict(manifest.teachers), dict(manifest.teachers)
    other["hi-bpe"] = without.pop("hi-bpe").model_copy(update={"fingerprint": "f" * 64})
    copies = [manifest.model_copy(update={"teachers": teachers}) for teachers in (without, manifest.teachers, other)]
    monkeypatch.setattr("schemas.predictions.read_manifest", dict(zip(folders, copies, strict=True)).get)
    monkeypatch.setattr("schemas.predictions._check_folder", lambda *_: None)
    assert set(open_predictions(*folders[:2]).teachers) == set(manifest.teachers)
    with pytest.raises(UserError, match="/c: its teacher 'hi-bpe' has fingerprint ffffffffffff, but in .*/b "):
        open_predictions(*folders)


def test_urls_of_one_place():
    assert location("memory://a/b/") == location("memory:///a/b") == "memory:///a/b"
    assert location("memory://a/b") != location("memory://a/B")


@pytest.mark.heavy
def test_readers_refuse_a_mismatch_with_both_values(run_pipeline, tmp_path):
    folder = run_pipeline(tmp_path / "p", max_length=16)
    path = open_predictions(str(folder)).files[0].record.path
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
    (folder / path).unlink()
    with pytest.raises(UserError, match="missing"):
        open_predictions(str(folder))
    write(files_sha256="f00")
    with pytest.raises(UserError, match=f"{FILES_FILE}: sha256 .* manifest says f00; it is from another run"):
        open_predictions(str(folder))
    (folder / FILES_FILE).unlink()
    with pytest.raises(UserError, match=f"{FILES_FILE}: missing"):
        open_predictions(str(folder))
    (folder / MANIFEST_FILE).unlink()
    with pytest.raises(UserError, match="not found"):
        open_predictions(str(folder))


# A manifest from before teachers of several models and samples of the tail existed.
EARLIER = (
    '{"schema_version":3,"run_sha256":"00","trimmed":false,"top_k":8,"seed":5,"max_length":24,"masking":{'
    '"mlm_probability":0.15,"mask_replace_prob":0.8,"random_replace_prob":0.1,"keep_prob":0.1,"copies":1,'
    '"whole_words":false},"packing":false,"token_identity":"family","teachers":{"bert":{"model":"org/bert",'
    '"revision":null,"family":"wordpiece","languages":["en"],"vocabulary_size":9,"fingerprint":"f0"}},"vocabulary":{'
    '"size":9,"sha256":"00"},"languages":[{"language":"en","teacher":"bert","records":4,"used":3,"rejected":{"empty":1},'
    '"rows":3,"dtypes":["float32"],"audit":{"rows":1,"positions":2,"kl":0.5,"kl_top_k":0.25,"tail_mass":0.1,'
    '"accuracy":0.5}}],"files":[{"path":"en/bert/00000.parquet","language":"en","teacher":"bert","rows":3,"row_groups":[3],'
    '"tokens":9,"masked_positions":4,"size":99,"footer_sha256":"00"}]}'
)


def test_fields_that_were_added_leave_earlier_fingerprints_as_they_were():
    manifest = Manifest.model_validate_json(EARLIER)
    assert manifest.sha256 == hashlib.sha256(EARLIER.encode()).hexdigest()
    # A new field counts as soon as it differs from its default.
    assert manifest.model_copy(update={"tail_samples": 1}).sha256 != manifest.sha256


def test_a_manifest_that_lists_the_files_itself_is_read(predictions, tmp_path):
    """All manifests used to list the files."""
    copy = shutil.copytree(predictions, tmp_path / "copy")
    content = read_content(copy)
    del content["files_sha256"]
    (copy / FILES_FILE).unlink()
    (copy / MANIFEST_FILE).write_text(json.dumps(content))
    old, new = (open_predictions(str(folder)) for folder in (copy, predictions))
    assert [file.record for file in old.files] == [file.record for file in new.files]
    assert "files" in old.manifests[0].model_dump() and "files" not in new.manifests[0].model_dump()
    # It is also written in the same form.
    write_manifest(str(copy), old.manifests[0])
    assert not (copy / FILES_FILE).exists()
    assert json.loads((copy / MANIFEST_FILE).read_text())["files"] == content["files"]
