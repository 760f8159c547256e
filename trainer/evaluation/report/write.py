"""The report of an evaluation: its files, and its summary in the terminal."""

import json
from pathlib import Path

from schemas.storage import write_bytes
from schemas.tables import format_table
from trainer.evaluation.report.cards import update_cards
from trainer.evaluation.report.collect import content_of
from trainer.evaluation.report.content import Content
from trainer.evaluation.report.markdown import to_markdown
from trainer.evaluation.report.page import to_html
from trainer.evaluation.report.sections import sections_of, summary_of
from trainer.evaluation.run import Evaluation


def write_report(evaluation: Evaluation) -> str:
    """Writes `report.json`, `report.md` and `report.html` to the output folder.

    Returns:
      A summary for the terminal: the first metric of each task by language and model, and where the page is.
    """
    content = content_of(evaluation)
    parts = (content.title, summary_of(content), sections_of(content))
    files = {
        "report.json": json.dumps(content.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "report.md": to_markdown(*parts),
        "report.html": to_html(*parts),
    }
    for name, text in files.items():
        write_bytes(str(Path(evaluation.config.output) / name), text.encode())
    if evaluation.config.update_model_cards:
        update_cards(content, evaluation.tasks)
    return f"{summary(content)}\n\n{Path(evaluation.config.output) / 'report.html'}"


def summary(content: Content) -> str:
    """Returns a table of the first metric of each task, by language; a star marks a result that is significantly the best."""
    models = [model.name for model in content.models]
    rows = []
    for task in content.tasks:
        shown = [
            result
            for result in content.results
            if task.metrics
            and (result.task, result.metric) == (task.key, task.metrics[0].key)
            and result.trained_on in (None, result.language)
        ]
        for language in dict.fromkeys(result.language for result in shown):
            values = {r.model: f"{r.value:.3f}{' *' * r.is_best}" for r in shown if r.language == language}
            title = f"{task.title}, {task.metrics[0].title}"
            rows.append([title, language, *(values.get(model, "") for model in models)])
    return format_table(["task", "language", *models], rows, align="ll" + "r" * len(models))
