"""Facts about teachers for a student's model card: their hub ids and licences."""

from collections.abc import Collection, Iterable
from pathlib import Path

from huggingface_hub import ModelCard, hf_hub_download

from schemas.manifest import MixedModelRecord, TeacherRecord

CARD_FILE = "README.md"
# The hub's name for a licence that it does not know.
OTHER = "other"


def hub_ids(teachers: Iterable[TeacherRecord], hub_models: Collection[str]) -> list[str]:
    """Returns the hub ids among the teachers' models, in order.

    A relative path looks like a hub id, so only models that the pipeline recorded in `hub_models` (`schemas.manifest`)
    count.
    """
    models = [record.model for teacher in teachers for record in _models(teacher)]
    return [model for model in dict.fromkeys(models) if model in hub_models]


def licence_of(teacher: TeacherRecord, hub_models: Collection[str]) -> str | None:
    """Returns the licence in the metadata of a teacher's card; None if it has none or cannot be read (offline).

    For a teacher with several models, returns the `shared_licence` of them. Asks the hub only about `hub_models`,
    because a stranger's model on the hub may have the same name as a local folder.
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
    except Exception:  # Errors of the hub, the network or a card's YAML must not fail an export.
        return None
    return licence if isinstance(licence, str) else None


def shared_licence(licences: Iterable[str | None]) -> str:
    """Returns the licence that all teachers have; `other` if they differ or one is unknown."""
    first, *others = set(licences)
    return first if first and not others else OTHER
