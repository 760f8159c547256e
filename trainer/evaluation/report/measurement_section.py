"""The section about what was measured, and how."""

from trainer.evaluation.report.content import Content, DataRecord, Measurement
from trainer.evaluation.report.tables import NOTHING, Cell, Group, Row, Section, Table, counted, text


def measurement_section(content: Content) -> Section:
    """Files and counts behind the figures, then settings, versions and device."""
    paragraphs = [
        "The files behind the figures, as the configuration names them, and how many of their records, sentences, pairs, "
        "examples or questions were used.",
        "Versions and device are those of the command that wrote this report. Scores of an earlier run are kept, and may have "
        "been computed with others.",
    ]
    tables = [_settings_table(content.measurement)]
    if content.measurement.data:
        tables.insert(0, _data_table(content.measurement.data))
    return Section("measurement", "How it was measured", paragraphs, tables)


def _data_table(data: list[DataRecord]) -> Table:
    columns = [("tested on", "test"), ("trained on", "train"), ("layer chosen on", "validation")]
    columns = [(title, use) for title, use in columns if any(use in record.files for record in data)]
    groups = []
    for tasks in dict.fromkeys(tuple(record.tasks) for record in data):
        rows = [
            Row(record.name, [_data_cell(record, use) for _, use in columns])
            for record in data
            if tuple(record.tasks) == tasks
        ]
        groups.append(Group("; ".join(tasks), rows))
    return Table("Data by task and language", ["language", *(title for title, _ in columns)], groups)


def _data_cell(record: DataRecord, use: str) -> Cell:
    if use not in record.files:
        return NOTHING
    count = counted(record.units[use], record.unit) if use in record.units else "not used"
    return text(count, record.files[use])


def _settings_table(measurement: Measurement) -> Table:
    settings = {"Length of text": f"at most {measurement.max_length:,} tokens; longer records are cut into pieces"}
    if measurement.fine_tuning:
        settings["Training on labels"] = _fine_tuning(measurement.fine_tuning)
    if measurement.seeds:
        settings["Seeds"] = ", ".join(map(str, measurement.seeds))
    samples = f"{measurement.bootstrap_samples:,}"
    settings |= {
        "Intervals": f"{measurement.confidence_level:.0%}, bootstrap with {samples} resamplings".replace("%", " %"),
        "Clear differences": f"p < {measurement.significance:g} in a randomization test with {samples} exchanges, and an "
        "interval without 0",
    }
    if any(record.section == "text" for record in measurement.data):
        settings["Tail mass"] = f"the probability outside a model's {measurement.top_k:,} best guesses"
    settings |= {
        "Versions": ", ".join(f"{name} {version}" for name, version in measurement.versions.items()),
        "Device": measurement.device,
    }
    rows = [Row(name, [text(value)]) for name, value in settings.items()]
    return Table("Settings", ["setting", "value"], [Group("", rows)])


def _fine_tuning(settings: dict[str, float | int | None]) -> str:
    """Returns the settings in words; a linear probe uses only the length."""
    parts = [
        f"learning rate {settings['learning_rate']:g}",
        f"epochs {settings['epochs']:g}",
        f"batches of {settings['batch_size']:,}",
        f"at most {settings['max_length']:,} tokens",
    ]
    if settings["max_train_examples"] is not None:
        parts.append(f"the first {settings['max_train_examples']:,} examples")
    return ", ".join(parts)
