"""Folders of predictions, opened and checked: what the trainer reads, and what tools look into."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from schemas.errors import UserError
from schemas.manifest import MANIFEST_FILE, FileRecord, Manifest, TeacherRecord, read_manifest
from schemas.storage import join, list_files, location, reaching
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary


@dataclass(frozen=True, eq=False)
class PredictionFile:
    """One Parquet file: where it is, and what the manifest says about it and about its folder."""

    url: str
    record: FileRecord
    manifest: Manifest

    @property
    def top_k(self) -> int:
        """Predictions for each masked position."""
        return self.manifest.top_k

    @property
    def tail_samples(self) -> int:
        """Samples of the tail at each masked position."""
        return self.manifest.tail_samples


@dataclass(frozen=True)
class Predictions:
    """Folders of predictions over one merged vocabulary, checked.

    Attributes:
      folders: as given.
      manifests: of the folders, in the same order.
      vocabulary: the largest one; it extends all the others, so that every id in every file is one of its ids.
      newest: the folder from which the vocabulary was read.
    """

    folders: list[str]
    manifests: list[Manifest]
    vocabulary: Vocabulary
    newest: str

    @property
    def top_k(self) -> int:
        """Predictions for each masked position, the same in all folders."""
        return self.manifests[0].top_k

    @property
    def max_length(self) -> int:
        """The longest sequence, in tokens."""
        return max(manifest.max_length for manifest in self.manifests)

    @property
    def language_names(self) -> list[str]:
        """The languages that have rows, sorted."""
        return list(self.files_by_language)

    @property
    def teacher_names(self) -> list[str]:
        """The teachers that have rows, sorted."""
        return sorted({file.record.teacher for file in self.files if file.record.rows})

    @cached_property
    def files(self) -> list[PredictionFile]:
        """All files, folder by folder."""
        return [
            PredictionFile(join(folder, file.path), file, manifest)
            for folder, manifest in zip(self.folders, self.manifests, strict=True)
            for file in manifest.files
        ]

    @cached_property
    def files_by_language(self) -> dict[str, list[PredictionFile]]:
        """The files of each language that has rows, by its name in order."""
        by_language: dict[str, list[PredictionFile]] = {}
        for file in self.files:
            by_language.setdefault(file.record.language, []).append(file)
        return {
            language: files
            for language, files in sorted(by_language.items())
            if any(file.record.rows for file in files)
        }

    @property
    def teachers(self) -> dict[str, TeacherRecord]:
        """By name. The last folder wins, because it most likely says where a teacher is today."""
        return {name: teacher for manifest in self.manifests for name, teacher in manifest.teachers.items()}

    @property
    def hub_models(self) -> set[str]:
        """The teachers' models that came from the hub, as far as that is known."""
        return {model for manifest in self.manifests for model in manifest.hub_models}

    def teacher_of(self, language: str) -> str:
        """The first teacher that teaches `language`."""
        teachers = (item for manifest in self.manifests for item in manifest.teachers.items())
        return next(name for name, teacher in teachers if language in teacher.languages)

    @property
    def sha256(self) -> str:
        """The fingerprint of the content of all manifests."""
        return hashlib.sha256("".join(manifest.sha256 for manifest in self.manifests).encode()).hexdigest()


def open_predictions(*folders: str) -> Predictions:
    """Opens folders of predictions, and checks them by themselves and against each other.

    Raises:
      UserError: a mismatch (both values are named), a folder given twice, a listed file that is missing, or storage that
        does not answer.
    """
    spellings: dict[str, str] = {}
    for folder in folders:
        if first := spellings.get(location(folder)):
            raise UserError(f"{first} and {folder}: a folder is given twice")
        spellings[location(folder)] = folder
    with reaching(", ".join(folders)):
        manifests = [read_manifest(folder) for folder in folders]
        vocabularies = [read_vocabulary(join(folder, VOCABULARY_FILE)) for folder in folders]
        for folder, manifest, vocabulary in zip(folders, manifests, vocabularies, strict=True):
            _check_folder(folder, manifest, vocabulary)
    newest = max(
        range(len(folders)), key=lambda index: (len(vocabularies[index]), len(vocabularies[index].teacher_ids))
    )
    for folder, manifest, vocabulary in zip(folders, manifests, vocabularies, strict=True):
        if not vocabularies[newest].extends(vocabulary):
            raise UserError(
                f"{folder}: its vocabulary ({manifest.vocabulary.sha256}) is no part of that of {folders[newest]} "
                f"({manifests[newest].vocabulary.sha256}); run the pipeline for the later one with "
                "`extends: <the earlier folder>`"
            )
        if manifest.top_k != manifests[0].top_k:
            raise UserError(
                f"{folder}: top_k is {manifest.top_k}, but in {folders[0]} it is {manifests[0].top_k}; "
                "folders that are read together need the same"
            )
        for name, teacher in manifest.teachers.items():
            known = manifests[0].teachers.get(name, teacher)
            if teacher.fingerprint != known.fingerprint:
                raise UserError(
                    f"{folder}: its teacher {name!r} is {teacher.fingerprint[:12]}, but in {folders[0]} it is "
                    f"{known.fingerprint[:12]}; give different teachers different names"
                )
    return Predictions(list(folders), manifests, vocabularies[newest], folders[newest])


def _check_folder(folder: str, manifest: Manifest, vocabulary: Vocabulary) -> None:
    if vocabulary.sha256 != manifest.vocabulary.sha256:
        raise UserError(
            f"{join(folder, VOCABULARY_FILE)}: sha256 {vocabulary.sha256}, but the manifest says "
            f"{manifest.vocabulary.sha256}; the vocabulary is from another run"
        )
    if fault := _fault(manifest, vocabulary):
        raise UserError(f"{join(folder, MANIFEST_FILE)}: {fault}; rerun the pipeline that wrote it")
    present = list_files(folder)
    for file in manifest.files:
        url = join(folder, file.path)
        if file.path not in present:
            raise UserError(f"{url}: listed in the manifest but missing; rerun the pipeline")
        if present[file.path] != file.size:
            raise UserError(
                f"{url}: has {present[file.path]:,} bytes, but the manifest says {file.size:,}; "
                "remove the file and rerun the pipeline"
            )


def _fault(manifest: Manifest, vocabulary: Vocabulary) -> str | None:
    """What in the manifest does not fit the vocabulary; None if everything does."""
    if manifest.vocabulary.size != len(vocabulary):
        return f"vocabulary.size is {manifest.vocabulary.size}, but it has {len(vocabulary)} tokens"
    if manifest.top_k > len(vocabulary):
        return f"top_k is {manifest.top_k}, more than the {len(vocabulary)} tokens of the vocabulary"
    for name, teacher in manifest.teachers.items():
        if name not in vocabulary.teacher_ids:
            return f"teachers.{name}: the vocabulary does not know it"
        known = int((vocabulary.teacher_ids[name] >= 0).sum())
        if known > teacher.vocabulary_size or (known < teacher.vocabulary_size and not manifest.trimmed):
            return f"teachers.{name}: vocabulary_size is {teacher.vocabulary_size}, but the vocabulary has {known}"
    return None
