"""A report as sections of text, tables and charts, for both Markdown and HTML."""

import math
from collections import Counter
from collections.abc import Callable, Iterable

from trainer.evaluation.report.charts import reliability_chart
from trainer.evaluation.report.content import Comparison, Content, HeatMap, MetricRecord, Result
from trainer.evaluation.report.tables import NOTHING, Cell, Group, Row, Section, Table, formatted, number, text
from trainer.evaluation.report.training_sections import curves_section, reaches_section

_BETTER, _WORSE, _UNCLEAR = "student is better", "teacher is better", "no clear difference"


def summary_of(content: Content) -> str:
    """Returns a sentence about what was evaluated."""
    languages = list(dict.fromkeys(result.language for result in content.results))
    counts = [(len(content.models), "model"), (len(content.tasks), "task"), (len(languages), "language")]
    shown = [f"{count} {noun}{'s' * (count != 1)}" for count, noun in counts]
    return f"{shown[0]}, {shown[1]}, {shown[2]} of test data."


def sections_of(content: Content) -> list[Section]:
    """The sections that have something to show."""
    made = [
        _results(content),
        _against_teachers(content),
        curves_section(content),
        reaches_section(content),
        _heat_maps(
            "transfer",
            "Transfer between languages",
            [
                "Each model is trained on the labels of the language of the row, and tested on those of the column. The "
                "diagonal is training and test in the same language; higher is better. Matrices of the same task have the same "
                "scale of colours."
            ],
            content.transfer,
        ),
        _heat_maps(
            "overlap",
            "Vocabulary overlap",
            [
                "The share of the tokens of the row's model that the column's model has too. In the first matrix tokens are "
                "compared as the tokenizers write them, so that families of tokenizers, which mark the beginnings of words "
                "in different ways, share little. In a merged vocabulary they are compared by meaning."
            ],
            content.overlap,
        ),
        _calibration(content),
        _figures(content),
        _costs(content),
        _models(content),
    ]
    return [section for section in made if section]


def _results(content: Content) -> Section | None:
    if not content.results:
        return None
    models = [model.name for model in content.models]
    by_metric = [
        (
            f"{task.title}: {_titled(metric)}",
            _of(content.results, task.key, metric.key),
        )
        for task in content.tasks
        for metric in task.metrics
    ]
    shown = [(title, [r for r in rows if r.trained_on in (None, r.language)]) for title, rows in by_metric]
    groups = [Group(title, _by_language(rows, models)) for title, rows in shown if rows]
    paragraphs = [
        "Below each value stands its 95 % interval, by bootstrap over sentences, pairs or questions. The best value of a row "
        "is marked with a star, where it is significantly better than all others of the row (paired tests, p < 0.05).",
    ]
    if any(result.trained_on for result in content.results):
        seeds = max(result.seeds for result in content.results)
        paragraphs.append(
            "Where models are trained for a task, it is on labels of the language that is tested"
            + (f", and values are averages of {seeds} runs with different seeds." if seeds > 1 else ".")
        )
    return Section(
        "results", "Results", paragraphs, [Table("Results by task and language", ["language", *models], groups)]
    )


def _by_language(results: list[Result], models: list[str]) -> list[Row]:
    rows = []
    for language in dict.fromkeys(result.language for result in results):
        of_language = {result.model: result for result in results if result.language == language}
        rows.append(Row(language, [_result(of_language[m]) if m in of_language else NOTHING for m in models]))
    return rows


def _result(result: Result) -> Cell:
    return number(result.value, detail=_interval(result.low, result.high), is_best=result.is_best)


def _against_teachers(content: Content) -> Section | None:
    if not content.comparisons:
        return None
    students = list(dict.fromkeys(comparison.student for comparison in content.comparisons))
    titles = {
        (task.key, metric.key): f"{task.title}, {_titled(metric)}" for task in content.tasks for metric in task.metrics
    }
    tally = [Row(student, _tally(c for c in content.comparisons if c.student == student)) for student in students]
    header = ["student", "better than its teacher", "no clear difference", "worse", "not compared"]
    tables = [Table("In how many of the comparisons below", header, [Group("", tally)])]
    for student in students:
        of_student = [c for c in content.comparisons if c.student == student]
        groups = [
            Group(title, [_comparison(c) for c in of_student if (c.task, c.metric) == key])
            for key, title in titles.items()
        ]
        header = ["language", "teacher", "difference", "p", "verdict"]
        tables.append(Table(f"{student} against its teachers", header, [group for group in groups if group.rows]))
    paragraphs = [
        "The student's value minus its teacher's on the same test data, with a 95 % interval (paired bootstrap); p is that "
        "of a paired randomization test. A difference is clear where the interval leaves out 0 and p < 0.05. An arrow leads "
        "from the language of training to that of the test.",
        "Figures of masked tokens are compared only where student and teacher are asked for the same tokens; the one with the "
        "larger vocabulary has more to choose from. Figures that only describe, and retrieval, which is between two "
        "languages, are not compared.",
    ]
    return Section("teachers", "Students against their teachers", paragraphs, tables)


def _tally(comparisons: Iterable[Comparison]) -> list[Cell]:
    counts = Counter(comparison.verdict for comparison in comparisons)
    known = [counts[verdict] for verdict in (_BETTER, _UNCLEAR, _WORSE)]
    return [number(count, "{:,}") for count in (*known, counts.total() - sum(known))]


def _comparison(comparison: Comparison) -> Row:
    c = comparison
    trained = c.trained_on not in (None, c.language)
    heading = f"{c.trained_on} → {c.language}" if trained else c.language
    difference = number(c.difference, "{:+.3f}", detail=_interval(c.low, c.high, "{:+.3f}"))
    return Row(heading, [text(c.teacher), difference, number(c.p), text(c.verdict)])


def _heat_maps(key: str, title: str, paragraphs: list[str], maps: list[HeatMap]) -> Section | None:
    tables = []
    for heat_map in maps:
        rows = [
            Row(name, [_level(value, heat_map) for value in values])
            for name, values in zip(heat_map.rows, heat_map.values, strict=True)
        ]
        header = [f"{heat_map.rows_title} ↓ {heat_map.columns_title} →", *heat_map.columns]
        tables.append(Table(heat_map.title, header, [Group("", rows)]))
    return Section(key, title, paragraphs, tables) if tables else None


def _level(value: float | None, heat_map: HeatMap) -> Cell:
    if value is None:
        return NOTHING
    width = heat_map.high - heat_map.low
    return number(value, level=(value - heat_map.low) / width if width else 1.0)


def _calibration(content: Content) -> Section | None:
    if not content.calibration:
        return None
    models = list(dict.fromkeys(c.model for c in content.calibration))
    errors = {(c.model, c.language): c.ece for c in content.calibration}
    languages = [language for language in content.languages if any((model, language) in errors for model in models)]
    rows = [Row(language, [number(errors.get((model, language))) for model in models]) for language in languages]
    paragraphs = [
        "Whether a model is right as often as it is sure: of tokens that it predicts with a confidence of 0.7, seven of ten "
        "should be right. The expected calibration error is the mean distance from that (lower is better). In the diagrams, "
        "a line below the diagonal means that a model is too sure of itself."
    ]
    charts = []
    for place, model in enumerate(models):
        of_model = [c for c in content.calibration if c.model == model]
        charts.append((model, reliability_chart(f"calibration-{place}", of_model, languages)))
    return Section(
        "calibration",
        "Calibration of masked tokens",
        paragraphs,
        [Table("Expected calibration error", ["language", *models], [Group("", rows)])],
        charts,
    )


def _figures(content: Content) -> Section | None:
    shown = [figure for figure in content.figures if figure.trained_on in (None, figure.language)]
    if not shown:
        return None
    models = [model.name for model in content.models]
    titles = {task.key: task.title for task in content.tasks}
    groups = []
    for task, key in dict.fromkeys((figure.task, figure.key) for figure in shown):
        of_key = [figure for figure in shown if (figure.task, figure.key) == (task, key)]
        rows = []
        for language in dict.fromkeys(figure.language for figure in of_key):
            values = {figure.model: figure.value for figure in of_key if figure.language == language}
            rows.append(Row(language, [number(values.get(model)) for model in models]))
        groups.append(Group(f"{titles[task]}: {key.replace('_', ' ')}", rows))
    tables = [Table("Further figures by task and language", ["language", *models], groups)]
    return Section("figures", "Further figures", ["Figures that help to understand the results."], tables)


def _costs(content: Content) -> Section | None:
    columns: list[tuple[str, str, Callable]] = [
        ("parameters", "{:,.0f}", lambda cost: cost.parameters),
        ("without token rows", "{:,.0f}", lambda cost: cost.encoder_parameters),
        ("tokens/s", "{:,.0f}", lambda cost: cost.tokens_per_second),
        ("peak memory, MiB", "{:,.0f}", lambda cost: cost.peak_memory_mib),
        ("evaluation, s", "{:,.1f}", lambda cost: cost.evaluation_seconds),
        ("training steps", "{:,}", lambda cost: cost.training_steps),
        ("training tokens/s", "{:,.0f}", lambda cost: cost.training_tokens_per_second),
    ]
    # A figure that was measured for no model has no column.
    columns = [column for column in columns if any(column[2](cost) is not None for cost in content.costs)]
    rows = [Row(cost.model, [number(value(cost), form) for _, form, value in columns]) for cost in content.costs]
    paragraphs = [
        "Tokens a second and memory are those of forward passes on the machine of the evaluation; the evaluation's seconds "
        "are those of all its tasks; steps and speed of training are those of the machine that trained."
    ]
    header = ["model", *(title for title, _, _ in columns)]
    return Section("cost", "What it cost", paragraphs, [Table("Size, speed and time", header, [Group("", rows)])])


def _models(content: Content) -> Section:
    rows = [
        Row(
            model.name,
            [
                text(model.model),
                text(model.revision or "–"),
                number(model.vocabulary_size, "{:,}"),
                text(", ".join(model.languages) if model.languages else "all"),
                text(", ".join(f"{language}: {teacher}" for language, teacher in model.teachers.items()) or "–"),
            ],
        )
        for model in content.models
    ]
    header = ["model", "loaded from", "revision", "tokens", "languages", "compared with"]
    return Section("models", "Models", [], [Table("The models", header, [Group("", rows)])])


def _of(results: list[Result], task: str, metric: str) -> list[Result]:
    return [result for result in results if (result.task, result.metric) == (task, metric)]


def _interval(low: float | None, high: float | None, form: str = "{:.3f}") -> str:
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{formatted(low, form)} to {formatted(high, form)}"


def _titled(metric: MetricRecord) -> str:
    """Returns its title, and which direction is better if the metric ranks."""
    direction = " (higher is better)" if metric.higher_is_better else " (lower is better)"
    return metric.title + direction * metric.ranks
