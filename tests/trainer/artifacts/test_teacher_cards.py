"""Information from teachers' cards."""

import pytest

from schemas.manifest import MixedModelRecord, TeacherRecord
from trainer.artifacts.teacher_cards import hub_ids, licence_of, shared_licence


def teacher(model) -> TeacherRecord:
    return TeacherRecord(
        model=str(model), revision=None, family="wordpiece", languages=["de"], vocabulary_size=1, fingerprint="f"
    )


def test_a_path_that_looks_like_a_hub_id_is_none(tmp_path, monkeypatch):
    """The folder was local where the pipeline ran and may be missing here: the hub is not asked for the same name."""
    monkeypatch.setattr("trainer.artifacts.teacher_cards.hf_hub_download", lambda *_, **__: pytest.fail("asked"))
    monkeypatch.chdir(tmp_path)
    models = ["org/bert", "teachers/german", "bert-base-uncased", "/a/b", "gs://bucket/x", "org/bert"]
    records = [teacher(model) for model in models]
    assert hub_ids(records, {"org/bert", "bert-base-uncased"}) == ["org/bert", "bert-base-uncased"]
    assert hub_ids(records, set()) == []
    assert licence_of(teacher("teachers/german"), {"org/bert"}) is None


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n# A model", "mit"),
        ("---\nlanguage: de\n---\n", None),
        ("no metadata", None),
        ("---\nlicense: [mit, apache-2.0]\n---\n", None),
        ("---\n: {: [\n---\n", None),
        ("---\n- a list\n---\n", None),
        ("---\nlicense: !!python/object/apply:os.system ['false']\n---\n", None),
        (b"\xff\xfe", None),
    ],
)
def test_the_licence_of_a_local_folder(tmp_path, card, licence):
    assert licence_of(teacher(tmp_path), set()) is None
    (tmp_path / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    assert licence_of(teacher(tmp_path), set()) == licence


def test_offline_no_licence_is_known():
    model = "no-such-organisation-1f/no-such-model"
    assert licence_of(teacher(model), {model}) is None


def test_a_licence_is_shared_only_by_all():
    assert shared_licence(["mit", "mit"]) == "mit"
    assert shared_licence(["mit", "apache-2.0"]) == shared_licence(["mit", None]) == shared_licence([None]) == "other"


def test_all_models_of_a_teacher_count(tmp_path):
    for name, licence in (("a", "mit"), ("b", "mit"), ("c", "apache-2.0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(f"---\nlicense: {licence}\n---\n")

    def mixed(*others) -> TeacherRecord:
        records = [MixedModelRecord(model=str(other), revision=None, weight=0.2) for other in others]
        return teacher(tmp_path / "a").model_copy(update={"mixed_with": records})

    assert licence_of(mixed(tmp_path / "b"), set()) == "mit"
    assert licence_of(mixed(tmp_path / "b", tmp_path / "c"), set()) == "other"
    assert hub_ids([mixed("org/b", tmp_path / "c")], {"org/b"}) == ["org/b"]
