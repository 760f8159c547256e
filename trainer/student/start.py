"""The model that a student continues from: an earlier student whose vocabulary this one extends, or a teacher."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers.utils import cached_file

from schemas.errors import UserError
from schemas.loading import loading_error
from schemas.predictions import Predictions
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary
from trainer.config import StudentConfig


@dataclass(frozen=True)
class Start:
    """A masked LM whose rows correspond to tokens of the merged vocabulary of V tokens.

    Attributes:
      name: as given in the configuration.
      model, revision: local folder or hub id, and its branch, tag or commit.
      tokens: its number of tokens; its embedding may have more rows.
      rows_V: int32, for each merged token its row in the embedding, -1 if it has none.
    """

    name: str
    model: str
    revision: str | None
    tokens: int
    rows_V: np.ndarray


def find_start(config: StudentConfig, predictions: Predictions) -> Start | None:
    """Returns the model that `config` names to continue from; None if it names none.

    Raises:
      UserError: it is neither a teacher nor an exported student, or this vocabulary does not extend its vocabulary.
    """
    name = config.start_from
    if name is None:
        return None
    vocabulary = predictions.vocabulary
    if name in vocabulary.teacher_ids and name in predictions.teachers:
        record = predictions.teachers[name]
        if config.revision is not None:
            raise UserError(
                f"student.revision: {name} is a teacher, whose revision the predictions give ({record.revision or 'none'}); "
                "leave it out"
            )
        return Start(name, record.model, record.revision, record.vocabulary_size, vocabulary.teacher_ids[name])
    earlier = _vocabulary_of(name, config.revision, sorted(predictions.teachers))
    if not vocabulary.extends(earlier):
        raise UserError(
            f"student.start_from: the vocabulary of {name} ({len(earlier):,} tokens, {earlier.sha256}) is not "
            f"contained in that of {predictions.newest} ({len(vocabulary):,} tokens, {vocabulary.sha256}); run the "
            "pipeline for that folder with `extends: <the folder that the student was trained on>`"
        )
    rows_V = np.full(len(vocabulary), -1, np.int32)
    rows_V[: len(earlier)] = np.arange(len(earlier))
    return Start(name, name, config.revision, len(earlier), rows_V)


def _vocabulary_of(student: str, revision: str | None, teachers: list[str]) -> Vocabulary:
    """Returns the merged vocabulary beside an exported student's weights. Raises UserError if there is none."""
    where = f"student.start_from: {student}"
    mend = f"give the folder or hub id of an exported student, or one of the teachers: {', '.join(teachers)}"
    try:
        file = cached_file(student, VOCABULARY_FILE, revision=revision, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read ({loading_error(error, student)}); {mend}") from None
    if file is None and not Path(student).is_dir():
        # Also if the hub could not be reached: `cached_file` does not tell these cases apart.
        raise UserError(
            f"{where}: there is no such folder, and no {VOCABULARY_FILE} of that hub id could be read; {mend}"
        )
    if file is None:
        raise UserError(
            f"{where}: has no {VOCABULARY_FILE}, which says what tokens its rows stand for; {mend} "
            "(`mergedistill export` also exports an unfinished run)"
        )
    return read_vocabulary(file)
