"""What the model cards of teachers say that a student's card needs: where they are on the hub, and their licences."""

from collections.abc import Collection, Iterable
from pathlib import Path

from huggingface_hub import ModelCard, hf_hub_download

from schemas.manifest import MixedModelRecord, TeacherRecord

CARD_FILE = "README.md"
# What a hub calls a licence that is none of those that it knows.
OTHER = "other"


def hub_ids(teachers: Iterable[TeacherRecord], hub_models: Collection[str]) -> list[str]:
    """The hub ids among the teachers' models, in order.

    A relative path looks like one. So only what the pipeline recorded as `hub_models` (`schemas.manifest`) counts.
    """
    models = [record.model for teacher in teachers for record in _models(teacher)]
    return [model for model in dict.fromkeys(models) if model in hub_models]


def licence_of(teacher: TeacherRecord, hub_models: Collection[str]) -> str | None:
    """The licence that the metadata of a teacher's card says; None where it says none, or cannot be read (offline).

    Of a teacher of several models, the one that all have, as `shared_licence` says. The hub is asked for `hub_models` only:
    there a stranger's model may have the name that is a folder's here.
    """
    licences = [_licence_of_model(record, hub_models) for record in _models(teacher)]
    return licences[0] if len(licences) == 1 else shared_licence(licences)


def _models(teacher: TeacherRecord) -> list[TeacherRecord | MixedModelRecord]:
    return [teacher, *teacher.mixed_with]


def _licence_of_model(record: TeacherRecord | MixedModelRecord, hub_models: Collection[str]) -> str | None:
    try:
        if record.model in hub_models:
            path = hf_hub_download(record.model, CARD_FILE, revision=record.revision)
        else:
            path = str(Path(record.model) / CARD_FILE)
        licence = ModelCard.load(Path(path), ignore_metadata_errors=True).data.license
    except Exception:  # Whatever a hub, a network or somebody's YAML makes of it: an export does not fail for this.
        return None
    return licence if isinstance(licence, str) else None


def shared_licence(licences: Iterable[str | None]) -> str:
    """The licence that all teachers have; `other` where they differ or one is not known."""
    first, *others = set(licences)
    return first if first and not others else OTHER
