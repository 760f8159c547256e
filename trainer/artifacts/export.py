"""Exports a checkpoint as a Hugging Face folder that plain transformers loads."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import UserError, differences
from schemas.manifest import DEFAULT_TOKENIZER, TEACHER_TOKENIZERS
from schemas.model_sizes import longest_sequence
from schemas.predictions import Predictions
from schemas.storage import join, temporary_folder, write_bytes
from schemas.tokenizer_files import CONFIG_FILE, read_settings, read_tokenizer_files
from schemas.vocabulary import VOCABULARY_FILE, write_vocabulary
from trainer.artifacts.checkpoint import load_state, load_weights
from trainer.artifacts.metrics import heldout_scores
from trainer.artifacts.model_card import model_card
from trainer.artifacts.older_names import add_older_names
from trainer.artifacts.scores import LanguageScores, scores_from_json
from trainer.artifacts.teacher_cards import CARD_FILE
from trainer.config import TrainerConfig
from trainer.data.stages import Stage
from trainer.student.model import build_student, config_from_json

EVALUATION_FILE = "evaluation.json"
_CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class ExportRecord:
    """`evaluation.json`: what was exported, by which a rerun knows that nothing is left to do.

    Attributes:
      step: the student's.
      heldout_sha256: the held-out predictions' sha256.
      languages: the student's scores by language.
      model_card: the configuration's section; empty in files from before this field.
    """

    step: int
    heldout_sha256: str | None
    languages: dict[str, LanguageScores]
    model_card: dict[str, Any] = field(default_factory=dict)


def export_checkpoint(
    config: TrainerConfig,
    predictions: Predictions,
    stages: list[Stage],
    step: int,
    heldout_sha256: str | None,
    folder: str,
) -> ExportRecord:
    """Writes the student of a checkpoint to `folder`: weights (safetensors), configuration, tokenizers and model card.

    `AutoModelForMaskedLM` and `AutoTokenizer` load `folder`; the tokenizer there is for text of any language.
    `AutoTokenizer.from_pretrained(folder, subfolder="tokenizers/<language>")` segments a language exactly as its
    (first) teacher does, in the merged ids that `_vocabulary.parquet` lists.

    Args:
      folder: owned by this process (`schemas.lock`).
      heldout_sha256: identifies the held-out predictions of the scores to report.

    Returns:
      The content of `evaluation.json`, which is written last.

    Raises:
      UserError: the checkpoint belongs to another student or another vocabulary.
    """
    state = load_state(config.output, step)
    ours = {"vocabulary_sha256": predictions.vocabulary.sha256, "student": config.student.model_dump(mode="json")}
    if changed := differences({key: state.run_spec[key] for key in ours}, ours):
        raise UserError(
            f"{config.output}: the checkpoint of step {step} is from another run ({changed}); give the configuration "
            "and predictions of that run"
        )
    model = build_student(config_from_json(state.configuration), config.seed)
    load_weights(config.output, step, model)
    add_older_names(model.config)
    # An interrupted export must not look complete: nothing loads the folder without its configuration.
    for name in (EVALUATION_FILE, _CONFIG_FILE):
        (Path(folder) / name).unlink(missing_ok=True)
    with temporary_folder(folder, "export") as scratch:
        model.save_pretrained(scratch)
        settings = (Path(scratch) / _CONFIG_FILE).read_bytes()
        (Path(scratch) / _CONFIG_FILE).unlink()
        for file in Path(scratch).iterdir():
            file.replace(Path(folder) / file.name)
    write_vocabulary(join(folder, VOCABULARY_FILE), predictions.vocabulary)
    limit = longest_sequence(model.config)
    _copy(join(predictions.newest, DEFAULT_TOKENIZER), Path(folder), limit)
    for language in predictions.language_names:
        source = join(predictions.newest, TEACHER_TOKENIZERS, predictions.teacher_of(language))
        _copy(source, Path(folder) / "tokenizers" / language, limit)
    scores = heldout_scores(config.output, step, heldout_sha256)
    record = ExportRecord(step, heldout_sha256, scores, config.model_card.model_dump())
    card = model_card(config, predictions, stages, step, model.num_parameters(), scores)
    write_bytes(join(folder, CARD_FILE), card.encode())
    write_bytes(join(folder, _CONFIG_FILE), settings)
    write_bytes(join(folder, EVALUATION_FILE), json.dumps(asdict(record), indent=2).encode() + b"\n")
    return record


def read_export(folder: str) -> ExportRecord | None:
    """Returns the record of a finished export; None if there is none or it is damaged."""
    path = Path(folder) / EVALUATION_FILE
    try:
        fields = json.loads(path.read_text())
        return ExportRecord(**fields | {"languages": scores_from_json(fields["languages"])})
    except FileNotFoundError:
        return None
    except (AttributeError, KeyError, TypeError, ValueError):
        # The caller exports again.
        return None


def _copy(source: str, target: Path, limit: int) -> None:
    """Copies a tokenizer's files and limits `model_max_length` to the student's `limit` tokens."""
    files = read_tokenizer_files(source)
    settings = read_settings(source, files)
    length = settings.get("model_max_length")
    settings["model_max_length"] = min(length, limit) if isinstance(length, int | float) else limit
    files[CONFIG_FILE] = json.dumps(settings, indent=2, ensure_ascii=False).encode()
    target.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (target / name).write_bytes(content)
