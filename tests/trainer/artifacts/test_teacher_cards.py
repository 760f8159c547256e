"""What teachers' cards say."""

import pytest

from schemas.manifest import MixedModelRecord, TeacherRecord
from trainer.artifacts.teacher_cards import hub_ids, licence_of, shared_licence


def teacher(model) -> TeacherRecord:
    return TeacherRecord(
        model=str(model), revision=None, family="wordpiece", languages=["de"], vocabulary_size=1, fingerprint="f"
    )


def test_hub_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local" / "folder").mkdir(parents=True)
    models = ["org/bert", "bert-base-uncased", "local/folder", "./x", "/a/b", "gs://bucket/x", "a/b/c", "org/bert"]
    assert hub_ids(map(teacher, models)) == ["org/bert", "bert-base-uncased"]


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
    assert licence_of(teacher(tmp_path)) is None
    (tmp_path / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    assert licence_of(teacher(tmp_path)) == licence


def test_offline_no_licence_is_known():
    assert licence_of(teacher("no-such-organisation-1f/no-such-model")) is None


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

    assert licence_of(mixed(tmp_path / "b")) == "mit"
    assert licence_of(mixed(tmp_path / "b", tmp_path / "c")) == "other"
    assert hub_ids([mixed("org/b", tmp_path / "c")]) == ["org/b"]
