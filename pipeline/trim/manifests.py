"""The manifest of folders that are trimmed together."""

import hashlib
import json

from schemas.errors import UserError
from schemas.file_table import FileTable
from schemas.manifest import Manifest, TeacherRecord, VocabularyRecord
from schemas.predictions import Predictions
from schemas.vocabulary import Vocabulary


def join_manifests(predictions: Predictions) -> Manifest:
    """Makes one manifest for all folders: that of the newest, with the teachers, languages and files of all.

    Raises UserError if one manifest cannot describe them all.
    """
    try:
        files = FileTable.joined(manifest.files for manifest in predictions.manifests)
    except ValueError as error:
        raise UserError(f"{', '.join(predictions.folders)}: {error}; trim them into separate folders") from None
    teachers: dict[str, TeacherRecord] = {}
    for manifest in predictions.manifests:
        for name, record in manifest.teachers.items():
            known = teachers[name].languages if name in teachers else []
            languages = [*known, *(language for language in record.languages if language not in known)]
            teachers[name] = record.model_copy(update={"languages": languages})
    newest = predictions.manifests[predictions.folders.index(predictions.newest)]
    for folder, manifest in zip(predictions.folders, predictions.manifests, strict=True):
        if (manifest.masking, manifest.seed) != (newest.masking, newest.seed):
            raise UserError(
                f"{folder}: its masking or seed differs from {predictions.newest}, and a manifest records only one; "
                "trim them into separate folders, the second with --vocabulary-from"
            )
        if manifest.tail_samples != newest.tail_samples:
            raise UserError(
                f"{folder}: tail_samples is {manifest.tail_samples}, but in {predictions.newest} it is "
                f"{newest.tail_samples}; trim them into separate folders, the second with --vocabulary-from"
            )
    return newest.model_copy(
        update={
            "max_length": predictions.max_length,
            "teachers": teachers,
            "hub_models": sorted(predictions.hub_models),
            "languages": [record for manifest in predictions.manifests for record in manifest.languages],
            "files": files,
        }
    )


def run_of(predictions: Predictions, vocabulary: Vocabulary) -> str:
    """Returns the fingerprint of the trimmed run, from those of its source runs and of its vocabulary."""
    parts = [*(manifest.run_sha256 for manifest in predictions.manifests), vocabulary.sha256]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def with_files(manifest: Manifest, vocabulary: Vocabulary, run_sha256: str, files: FileTable) -> Manifest:
    """Returns `manifest` for another vocabulary, with the files as they were written."""
    rows = files.rows_by_pair()
    languages = [
        record.model_copy(update={"rows": rows.get((record.language, record.teacher), 0)})
        for record in manifest.languages
    ]
    record = VocabularyRecord(size=len(vocabulary), sha256=vocabulary.sha256)
    changes = {"vocabulary": record, "run_sha256": run_sha256, "trimmed": True, "languages": languages}
    return manifest.model_copy(update=changes | {"files": files})
