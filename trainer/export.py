"""The finished student as a Hugging Face folder that plain transformers loads."""

import json
from pathlib import Path

from transformers import PreTrainedModel

from schemas.manifest import DEFAULT_TOKENIZER, TEACHER_TOKENIZERS, Predictions
from schemas.storage import filesystem, join
from trainer.student import longest_sequence


def export_student(output: str, model: PreTrainedModel, predictions: Predictions) -> None:
    """Writes weights (safetensors), configuration and tokenizers to `output`.

    `AutoModelForMaskedLM` and `AutoTokenizer` load `output`; the tokenizer there is for
    text of any language. `AutoTokenizer.from_pretrained(output, subfolder="tokenizers/<language>")`
    segments a language exactly as its (first) teacher does, in merged ids.
    """
    model.save_pretrained(output)
    limit = longest_sequence(model.config)
    _copy(join(predictions.newest, DEFAULT_TOKENIZER), Path(output), limit)
    for language in predictions.language_names:
        source = join(predictions.newest, TEACHER_TOKENIZERS, predictions.teacher_of(language))
        _copy(source, Path(output) / "tokenizers" / language, limit)


def _copy(source: str, target: Path, limit: int) -> None:
    """Copies a tokenizer's files; it learns that the student reads at most `limit` tokens."""
    fs, path = filesystem(source)
    target.mkdir(parents=True, exist_ok=True)
    for file in fs.ls(path, detail=False):
        name, content = file.rsplit("/", 1)[-1], fs.cat_file(file)
        if name == "tokenizer_config.json":
            settings = json.loads(content)
            settings["model_max_length"] = min(settings["model_max_length"], limit)
            content = json.dumps(settings, indent=2, ensure_ascii=False).encode()
        (target / name).write_bytes(content)
