"""A report as sections of text, tables and charts, for both Markdown and HTML."""

import math
from collections.abc import Callable

from trainer.evaluation.report.charts import reliability_chart
from trainer.evaluation.report.content import Content, HeatMap, Result
from trainer.evaluation.report.measurement_section import measurement_section
from trainer.evaluation.report.tables import NOTHING, Cell, Group, Row, Section, Table, counted, interval, number, text
from trainer.evaluation.report.teachers_section import teachers_section
from trainer.evaluation.report.training_sections import curves_section, reaches_section


def sections_of(content: Content) -> list[Section]:
    """The sections that have something to show."""
    made = [
        _results(content),
        teachers_section(content),
        curves_section(content),
        reaches_section(content),
        _heat_maps(
            "transfer",
            "Transfer between languages",
            [
                "Each row is a model and the language of the labels that it is trained on; it is tested on those of the "
                "column. Higher is better. If both languages are the same, nothing is transferred."
            ],
            content.transfer,
        ),
        _heat_maps(
            "overlap",
            "Vocabulary overlap",
            [
                "The share of the tokens of the row's model that the column's model also has. The first matrix compares tokens "
                "as the tokenizers write them. Different families of tokenizers mark the beginnings of words differently, so "
                "they share little there. In a merged vocabulary, tokens are compared by what they stand for."
            ],
            content.overlap,
        ),
        _calibration(content),
        _figures(content),
        _costs(content),
        measurement_section(content),
        _models(content),
    ]
    return [section for section in made if section]


def _results(content: Content) -> Section | None:
    if not content.results:
        return None
    models = [model.name for model in content.models]
    groups = [
        Group(
            f"{task.title}: {metric.title_with_direction}",
            _by_language(_shown(content, task.key, metric.key), models, task.unit),
        )
        for task in content.tasks
        for metric in task.metrics
    ]
    paragraphs = [
        "Below each value is its 95 % interval, by bootstrap over sentences, pairs or questions. A star marks the best value "
        "of a row if it is significantly better than all others in the row (paired tests, p < 0.05).",
    ]
    if any(result.trained_on for result in content.results):
        seeds = max(result.seeds for result in content.results)
        paragraphs.append(
            "Models that are trained for a task are trained on labels of the language that is tested"
            + (
                f". A value with a line of seeds below it is the average of {seeds} runs with different seeds; the line is "
                "from the lowest to the highest of their values."
                if seeds > 1
                else "."
            )
        )
    groups = [group for group in groups if group.rows]
    table = Table("Results by task and language", ["language", *models], groups, repeats_header=True)
    return Section("results", "Results", paragraphs, [table])


def _shown(content: Content, task: str, metric: str) -> list[Result]:
    """Returns the results of a metric, without those of models that were trained on another language."""
    of_metric = [result for result in content.results if (result.task, result.metric) == (task, metric)]
    return [result for result in of_metric if result.trained_on in (None, result.language)]


def _by_language(results: list[Result], models: list[str], unit: str) -> list[Row]:
    rows = []
    for language in dict.fromkeys(result.language for result in results):
        of_language = {result.model: result for result in results if result.language == language}
        cells = [_result(of_language[model]) if model in of_language else NOTHING for model in models]
        # One number, unless models were scored on different units.
        units = {result.units for result in of_language.values()}
        rows.append(Row(language, cells, counted(units.pop(), unit) if len(units) == 1 else ""))
    return rows


def _result(result: Result) -> Cell:
    details = [interval(result.low, result.high), _spread(result.seed_values)]
    return number(result.value, details=details, is_best=result.is_best)


def _spread(seed_values: list[float]) -> str:
    """Returns the lowest and the highest value of several runs, as text; empty if there is only one, or one without a value."""
    if len(seed_values) < 2 or not all(map(math.isfinite, seed_values)):
        return ""
    return f"seeds {interval(min(seed_values), max(seed_values))}"


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
        "Whether a model's confidence matches its accuracy: seven of ten tokens that it predicts with a confidence of 0.7 "
        "should be right. The expected calibration error is the mean difference between the two (lower is better). In the "
        "diagrams, a line below the diagonal means that a model is overconfident."
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
    tables = [Table("Further figures by task and language", ["language", *models], groups, repeats_header=True)]
    return Section("figures", "Further figures", ["Figures that help to understand the results."], tables)


def _costs(content: Content) -> Section | None:
    columns: list[tuple[str, str, Callable]] = [
        ("parameters", "{:,.0f}", lambda cost: cost.parameters),
        ("without token rows", "{:,.0f}", lambda cost: cost.encoder_parameters),
        ("tokens/s", "{:,.0f}", lambda cost: cost.tokens_per_second),
        ("peak memory, MiB", "{:,.0f}", lambda cost: cost.peak_memory_mib),
        ("evaluation, s", "{:,.1f}", lambda cost: cost.evaluation_seconds),
        ("training steps", "{:,}", lambda cost: cost.training_steps),
        ("step of the weights", "{:,}", lambda cost: cost.exported_step),
        ("training tokens/s", "{:,.0f}", lambda cost: cost.training_tokens_per_second),
    ]
    # A figure that was measured for no model has no column.
    columns = [column for column in columns if any(column[2](cost) is not None for cost in content.costs)]
    rows = [Row(cost.model, [number(value(cost), form) for _, form, value in columns]) for cost in content.costs]
    paragraphs = [
        "Tokens per second and memory were measured in forward passes on the machine of the evaluation. The seconds of the "
        "evaluation are for all its tasks. The steps and speed of training are from the training run on its own machine."
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
                text(model.tokenizer, [f"default for {', '.join(model.default_for)}" if model.default_for else ""]),
                text(", ".join(model.languages) if model.languages else "all"),
                text(", ".join(f"{language}: {teacher}" for language, teacher in model.teachers.items()) or "–"),
            ],
        )
        for model in content.models
    ]
    header = ["model", "loaded from", "revision", "tokens", "tokenizer", "languages", "compared with"]
    paragraphs = [
        "A student is read with one tokenizer for each language, which segments as the language's teacher does, or with its "
        "default tokenizer, which is for text of any language. Other models have only one.",
    ]
    return Section("models", "Models", paragraphs, [Table("The models", header, [Group("", rows)])])
