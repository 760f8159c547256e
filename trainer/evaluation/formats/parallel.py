"""Two files whose lines are translations of one another."""

from schemas.errors import UserError
from schemas.secrets import without_secrets
from trainer.evaluation.formats.lines import read_lines


def read_parallel(files: tuple[str, str]) -> list[tuple[str, str]]:
    """Returns the pairs of lines of two files.

    Raises:
      UserError: a file is missing, empty or not UTF-8, a line is blank, or one file has more lines.
    """
    first, second = (read_lines(file) for file in files)
    shown = [without_secrets(file) for file in files]
    if len(first) != len(second):
        raise UserError(
            f"{shown[1]}: has {len(second)} lines, but {shown[0]} has {len(first)}; each line must be the translation of the "
            "same line of the other file"
        )
    for name, lines in zip(shown, (first, second), strict=True):
        for number, line in enumerate(lines, 1):
            if not line.strip():
                raise UserError(f"{name}:{number}: is blank; remove the line from both files, or fill it in")
    return list(zip(first, second, strict=True))
