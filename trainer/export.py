"""The finished student as a Hugging Face folder that plain transformers loads."""

from pathlib import Path

from transformers import PreTrainedModel

from schemas.manifest import DEFAULT_TOKENIZER, TEACHER_TOKENIZERS, Manifest
from schemas.storage import filesystem, join


def export_student(output: str, model: PreTrainedModel, folder: str, manifest: Manifest) -> None:
    """Writes weights (safetensors), configuration and tokenizers to `output`.

    `AutoModelForMaskedLM` and `AutoTokenizer` load `output`; the tokenizer there is for
    text of any language. `AutoTokenizer.from_pretrained(output, subfolder="tokenizers/<language>")`
    segments a language exactly as its (first) teacher does, in merged ids.
    """
    model.save_pretrained(output)
    _copy(join(folder, DEFAULT_TOKENIZER), Path(output))
    for language in manifest.language_names:
        teacher = next(name for name, teacher in manifest.teachers.items() if language in teacher.languages)
        _copy(join(folder, TEACHER_TOKENIZERS, teacher), Path(output) / "tokenizers" / language)


def _copy(source: str, target: Path) -> None:
    fs, path = filesystem(source)
    target.mkdir(parents=True, exist_ok=True)
    for file in fs.ls(path, detail=False):
        (target / file.rsplit("/", 1)[-1]).write_bytes(fs.cat_file(file))
