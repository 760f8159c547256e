"""Opens and checks folders of predictions, for the trainer and for tools."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from schemas.errors import UserError
from schemas.file_table import FileRecord
from schemas.manifest import MANIFEST_FILE, Manifest, TeacherRecord, read_manifest
from schemas.storage import join, list_files, location
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary


@dataclass(frozen=True, eq=False)
class PredictionFile:
    """One Parquet file: where it is, and what the manifest says about it and about its folder."""

    url: str
    record: FileRecord
    manifest: Manifest

    @property
    def top_k(self) -> int:
        """Predictions per masked position."""
        return self.manifest.top_k

    @property
    def tail_samples(self) -> int:
        """Samples of the tail per masked position."""
        return self.manifest.tail_samples


@dataclass(frozen=True)
class Predictions:
    """Checked folders of predictions over one merged vocabulary.

    Legend: F files, G row groups of all files, folder by folder.

    Attributes:
      folders: as given.
      manifests: of the folders, in the same order.
      vocabulary: the largest one; it extends all the others, so every id in every file is one of its ids.
      newest: the folder that the vocabulary comes from.
    """

    folders: list[str]
    manifests: list[Manifest]
    vocabulary: Vocabulary
    newest: str

    @property
    def top_k(self) -> int:
        """Predictions per masked position, the same in all folders."""
        return self.manifests[0].top_k

    @property
    def max_length(self) -> int:
        """The longest sequence, in tokens."""
        return max(manifest.max_length for manifest in self.manifests)

    @property
    def language_names(self) -> list[str]:
        """The languages that have rows, sorted."""
        return sorted({language for language, _ in self._pairs})

    @property
    def teacher_names(self) -> list[str]:
        """The teachers that have rows, sorted."""
        return sorted({teacher for _, teacher in self._pairs})

    def teachers_of(self, language: str) -> list[str]:
        """The teachers that have rows of `language`, sorted."""
        return sorted({teacher for of_rows, teacher in self._pairs if of_rows == language})

    @cached_property
    def files(self) -> list[PredictionFile]:
        """All files, folder by folder. Large runs have hundreds of thousands; `file` returns one of them."""
        return [
            PredictionFile(join(folder, file.path), file, manifest)
            for folder, manifest in zip(self.folders, self.manifests, strict=True)
            for file in manifest.files
        ]

    def file(self, number: int) -> PredictionFile:
        """One of the F files, numbered folder by folder."""
        for folder, manifest in zip(self.folders, self.manifests, strict=True):
            if number < len(manifest.files):
                record = manifest.files[number]
                return PredictionFile(join(folder, record.path), record, manifest)
            number -= len(manifest.files)
        raise IndexError("there is no such file")

    def counts(self, column: str) -> np.ndarray:
        """A numeric column of the F files, int64 [F]."""
        return np.concatenate([manifest.files.counts(column) for manifest in self.manifests])

    def numbered_languages(self, languages: list[str]) -> np.ndarray:
        """int64 [F]: the index of each file's language in `languages`, or -1."""
        place_of = {language: place for place, language in enumerate(languages)}
        parts = []
        for manifest in self.manifests:
            names, number_F = manifest.files.names("language")
            parts.append(np.array([place_of.get(name, -1) for name in names], np.int64)[number_F])
        return np.concatenate(parts)

    @cached_property
    def row_groups(self) -> np.ndarray:
        """int64 [G, 3]: for each row group, the number of its file, its number in that file, and its rows."""
        parts = [manifest.files.row_groups for manifest in self.manifests]
        rows_G, groups_F = (np.concatenate(part) for part in zip(*parts, strict=True))
        file_G = np.repeat(np.arange(len(groups_F)), groups_F)
        group_G = np.arange(len(rows_G)) - (np.cumsum(groups_F) - groups_F)[file_G]
        return np.stack([file_G, group_G, rows_G], 1)

    @cached_property
    def _pairs(self) -> set[tuple[str, str]]:
        """The (language, teacher) that have rows."""
        return {pair for manifest in self.manifests for pair, rows in manifest.files.rows_by_pair().items() if rows}

    @property
    def teachers(self) -> dict[str, TeacherRecord]:
        """The teachers by name. The last folder wins, because it most likely has a teacher's current location."""
        return {name: teacher for manifest in self.manifests for name, teacher in manifest.teachers.items()}

    @property
    def hub_models(self) -> set[str]:
        """The teachers' models that are known to come from the hub."""
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
    """Opens folders of predictions, and checks each of them and how they fit together.

    Raises:
      UserError: a mismatch (both values are named), a folder given twice, a listed file that is missing, or storage
        that does not answer.
    """
    spellings: dict[str, str] = {}
    for folder in folders:
        if first := spellings.get(location(folder)):
            raise UserError(f"{first} and {folder}: the same folder is given twice")
        spellings[location(folder)] = folder
    manifests = [read_manifest(folder) for folder in folders]
    vocabularies = [read_vocabulary(join(folder, VOCABULARY_FILE)) for folder in folders]
    for folder, manifest, vocabulary in zip(folders, manifests, vocabularies, strict=True):
        _check_folder(folder, manifest, vocabulary)
    newest = max(
        range(len(folders)), key=lambda index: (len(vocabularies[index]), len(vocabularies[index].teacher_ids))
    )
    known: dict[str, tuple[str, str]] = {}
    for folder, manifest, vocabulary in zip(folders, manifests, vocabularies, strict=True):
        if not vocabularies[newest].extends(vocabulary):
            raise UserError(
                f"{folder}: its vocabulary ({manifest.vocabulary.sha256}) is not contained in that of {folders[newest]} "
                f"({manifests[newest].vocabulary.sha256}); run the pipeline for the later folder with "
                "`extends: <the earlier folder>`"
            )
        if manifest.top_k != manifests[0].top_k:
            raise UserError(
                f"{folder}: top_k is {manifest.top_k}, but in {folders[0]} it is {manifests[0].top_k}; "
                "folders that are read together need the same"
            )
        for name, teacher in manifest.teachers.items():
            first, fingerprint = known.setdefault(name, (folder, teacher.fingerprint))
            if teacher.fingerprint != fingerprint:
                raise UserError(
                    f"{folder}: its teacher {name!r} has fingerprint {teacher.fingerprint[:12]}, but in {first} "
                    f"{fingerprint[:12]}; give different teachers different names"
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
    for path, size in manifest.files.sizes():
        if present.get(path) == size:
            continue
        if path not in present:
            raise UserError(f"{join(folder, path)}: listed in the manifest but missing; rerun the pipeline")
        raise UserError(
            f"{join(folder, path)}: has {present[path]:,} bytes, but the manifest says {size:,}; "
            "remove the file and rerun the pipeline"
        )


def _fault(manifest: Manifest, vocabulary: Vocabulary) -> str | None:
    """Returns what in the manifest does not fit the vocabulary, or None."""
    if manifest.vocabulary.size != len(vocabulary):
        return f"vocabulary.size is {manifest.vocabulary.size}, but the vocabulary has {len(vocabulary)} tokens"
    if manifest.top_k > len(vocabulary):
        return f"top_k is {manifest.top_k}, more than the {len(vocabulary)} tokens of the vocabulary"
    for name, teacher in manifest.teachers.items():
        if name not in vocabulary.teacher_ids:
            return f"teachers.{name}: not in the vocabulary"
        known = int((vocabulary.teacher_ids[name] >= 0).sum())
        if known > teacher.vocabulary_size or (known < teacher.vocabulary_size and not manifest.trimmed):
            return f"teachers.{name}: vocabulary_size is {teacher.vocabulary_size}, but the vocabulary has {known} of its tokens"
    return None
