"""The table of claims: each with its condition and all its figures."""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from examples.claims.corpora import TREEBANKS
from examples.claims.evaluated import Claim, Evaluated
from examples.claims.plan import (
    ABLATION_STEPS,
    GROUPS,
    SEVERAL,
    STEPS,
    STUDENTS,
    VARIANTS,
    ablations,
    pair,
    pairs,
    plan,
)
from examples.claims.runs import TEACHER_STEPS
from examples.claims.transfer import transfer_claims, transfer_table
from examples.schedule import seconds_of
from schemas.storage import write_bytes
from schemas.tables import format_table
from trainer.evaluation.statistics import Difference


def write_claims(root: Path, has_tags: bool) -> None:
    """Prints the report and writes it to `root/report.md`."""
    parts = ["# The claims", ""]
    claims: list[Claim] = []
    for group in GROUPS:
        evaluated = Evaluated(root, group)
        parts += [f"## Teachers of {group} languages", "", *_group_table(evaluated, group), ""]
        claims += _quality(evaluated, group)
        claims.append(_tagging(root, group, has_tags))
        claims += _steps(root, group)
    if has_tags:
        parts += ["## Tags of one language, tested in another", "", *transfer_table(root), ""]
        claims += transfer_claims(root)
    else:
        claims.append(Claim("5: transfer of tags", "", "no annotations here", None))
    parts += ["## Two multilingual teachers and a specialised one", ""]
    claims += _several(root, parts)
    parts += ["", "## Students that differ in one language's teacher", ""]
    claims += _teacher_choice(root, parts)
    parts += ["", "## One setting changed at a time", "", *_ablation_table(root), ""]
    # By number; sorting is stable.
    claims.sort(key=lambda claim: claim.text[0])
    rows = [[claim.text, claim.asked, claim.measured, claim.verdict] for claim in claims]
    table = format_table(["claim", "asked for", "measured", "shown"], rows, "llll", is_markdown=True)
    seconds = sum(seconds_of(root, step.name) for step in plan(root, has_tags))
    parts[1:1] = ["", table, "", f"All steps together took {seconds / 60:.0f} minutes of one core.", ""]
    text = "\n".join(parts) + "\n"
    write_bytes(str(root / "report.md"), text.encode())
    print(text)


def _group_table(evaluated: Evaluated, group: str) -> list[str]:
    """Returns masked-token scores and bits per character of all models of a group."""
    models = [*STUDENTS, "teacher", "further"]
    rows = []
    for language in GROUPS[group]:
        names = {"teacher": language, "further": f"{language}-further"}
        for metric, task in (("accuracy", "masked"), ("nll", "masked"), ("bits_per_character", "likelihood")):
            values = [evaluated.value(task, metric, names.get(model, model), language) for model in models]
            rows.append([language, metric.replace("_", " "), *(f"{value:.3f}" for value in values)])
    heads = ["start", "random", "MLM start", "MLM random", "teacher", "teacher further"]
    lines = [format_table(["language", "figure", *heads], rows, is_markdown=True), ""]
    lines.append(
        f"*start*: the student from its teachers, {STEPS} steps. *random*: from random weights. *MLM*: the same without teachers' "
        f"predictions. *teacher*: {TEACHER_STEPS} steps on its language. *teacher further*: as many more, so that it has read "
        "each text of its language about as often as its teacher and the student together."
    )
    return lines


def _quality(evaluated: Evaluated, group: str) -> list[Claim]:
    """Claim 1: how well the students predict, and their size."""
    languages = list(GROUPS[group])
    claims = []
    for student, least_mean, least in (("start", 1.05, 1.0), ("random", 1.0, 0.97)):
        compared = _to_teachers(evaluated, "masked", "accuracy", student, languages)
        ratios = [
            evaluated.value("masked", "accuracy", student, language)
            / evaluated.value("masked", "accuracy", language, language)
            for language in languages
        ]
        claims.append(
            Claim(
                f"1, {group}: the {student} student's masked accuracy beside its teachers'",
                f"mean at least {least_mean:.2f}, each {least:.2f}",
                f"mean {mean(ratios):.3f}: {_with_p(compared, ratios)}",
                mean(ratios) >= least_mean and min(ratios) >= least,
                _unclear(compared),
            )
        )
    for task, metric, title in (
        ("masked", "nll", "NLL in nats"),
        ("likelihood", "bits_per_character", "bits per character"),
    ):
        compared = _to_teachers(evaluated, task, metric, "start", languages)
        differences = [difference.value for difference in compared.values()]
        claims.append(
            Claim(
                f"1, {group}: the start student's {title} beside each teacher's",
                "no worse than any",
                _with_p(compared, differences, "+.3f"),
                max(differences) <= 0,
                _unclear(compared),
            )
        )
    sizes = {model: evaluated.encoder_parameters[model] for model in ("start", *languages)}
    claims.append(
        Claim(
            f"1, {group}: the student's encoder",
            "no larger than one teacher's",
            ", ".join(f"{model} {size:,.0f}" for model, size in sizes.items()),
            sizes["start"] <= max(size for model, size in sizes.items() if model != "start"),
        )
    )
    return claims


def _tagging(root: Path, group: str, has_tags: bool) -> Claim:
    """Claim 1: fine-tuned tagging."""
    tagged = [language for language in GROUPS[group] if language in TREEBANKS]
    text = f"1, {group}: fine-tuned tagging, the start student beside its teachers"
    asked = "at least theirs on average"
    if not has_tags:
        return Claim(text, asked, "no annotations here", None)
    evaluated = Evaluated(root, f"{group}-tagging")
    compared = _to_teachers(evaluated, "tagging", "accuracy", "start", tagged, is_trained=True)
    differences = [difference.value for difference in compared.values()]
    measured = f"mean {mean(differences):+.4f}: {_with_p(compared, differences, '+.4f')}"
    return Claim(text, asked, measured, mean(differences) >= 0, _unclear(compared))


def _to_teachers(
    evaluated: Evaluated, task: str, metric: str, student: str, languages: list[str], is_trained: bool = False
) -> dict[str, Difference]:
    """Compares a student with the teacher of each language."""
    return {
        language: evaluated.compared(
            task, metric, (student, language), language, trained_on=language if is_trained else None
        )
        for language in languages
    }


def _unclear(compared: dict[str, Difference]) -> tuple[str, ...]:
    return tuple(language for language, difference in compared.items() if not difference.is_clear)


def _with_p(compared: dict[str, Difference], values: Iterable[float], form: str = ".3f") -> str:
    return ", ".join(
        f"{language} {value:{form}} (p {difference.p:.3f})"
        for (language, difference), value in zip(compared.items(), values, strict=True)
    )


def _steps(root: Path, group: str) -> list[Claim]:
    """Claim 2: steps until the MLM-only student's final held-out loss."""
    curves = {student: _curve(root / "students" / f"{group}-{student}") for student in STUDENTS}
    target, whole = curves["mlm-random"][-1][1], curves["mlm-random"][-1][0]
    claims = []
    for student, share in (("random", 1 / 2), ("start", 1 / 5)):
        step = _first(curves[student], target)
        claims.append(
            Claim(
                f"2, {group}: steps of the {student} student to the final loss of MLM-only from random weights",
                f"at most {share * whole:.0f} of {whole}",
                f"{step or 'never'} (loss {target:.3f})",
                step is not None and step <= share * whole,
            )
        )
    target = curves["mlm-start"][-1][1]
    step = _first(curves["start"], target)
    claims.append(
        Claim(
            f"2, {group}: steps of the start student to the final loss of MLM-only from the same start",
            f"fewer than {curves['mlm-start'][-1][0]}",
            f"{step or 'never'} (loss {target:.3f}, its own final loss {curves['start'][-1][1]:.3f})",
            step is not None and step < curves["mlm-start"][-1][0],
        )
    )
    return claims


def _curve(run: Path) -> list[tuple[int, float]]:
    """Returns (step, mean over the languages of the held-out NLL) of a training."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        (line["step"], mean(scores["nll"] for scores in line["heldout"].values()))
        for line in lines
        if "heldout" in line
    ]


def _first(curve: Iterable[tuple[int, float]], loss: float) -> int | None:
    """Returns the first step of a curve with this loss or a lower one."""
    return next((step for step, value in curve if value <= loss), None)


def _several(root: Path, parts: list[str]) -> list[Claim]:
    """Claim 3: the student of overlapping multilingual teachers."""
    evaluated = Evaluated(root, "several")
    rows, claims = [], []
    for language, teachers in SEVERAL.items():
        student = evaluated.value("likelihood", "bits_per_character", "student", language)
        values = [evaluated.value("likelihood", "bits_per_character", name, language) for name in teachers]
        worst = teachers[values.index(max(values))]
        compared = evaluated.compared("likelihood", "bits_per_character", ("student", worst), language)
        rows.append([language, f"{student:.3f}", _listed(teachers, values)])
        claims.append(
            Claim(
                f"3: bits per character in {language}, several teachers",
                "below their average, and clearly below the worse one",
                f"{student:.3f} beside {_listed(teachers, values)}; to the worse one {compared.value:+.3f}, "
                f"p {compared.p:.3f}",
                student < mean(values) and compared.is_clear and compared.value < 0,
            )
        )
    parts.append(format_table(["language", "student", "teachers"], rows, "lrl", is_markdown=True))
    return claims


def _teacher_choice(root: Path, parts: list[str]) -> list[Claim]:
    """Claim 4: students rank in the order that the comparison of their teachers predicts."""
    students = Evaluated(root, "pairs")
    # For each teacher, those that the comparison calls clearly better.
    better: dict[tuple[str, str], list[str]] = {}
    rows = []
    for language in VARIANTS:
        path = root / "evaluation" / f"candidates-{language}" / "comparison.json"
        (ranking,) = json.loads(path.read_text())
        for candidate in ranking["candidates"]:
            name = candidate["name"]
            better[language, name] = candidate["worse_than"]
            student = students.result("likelihood", "bits_per_character", f"student-{pair(language, name)}", language)
            bits = f"{candidate['figures']['bits_per_character']:.3f} [{candidate['low']:.3f}, {candidate['high']:.3f}]"
            rows.append([language, name, candidate["rank"] or "-", bits, _with_interval(student)])
    heads = ["language", "teacher", "rank", "teacher's bits per character", "student's"]
    parts.append(format_table(heads, rows, "llrrr", is_markdown=True))

    def bits(language: str, teacher: str) -> float:
        return students.value("likelihood", "bits_per_character", f"student-{pair(language, teacher)}", language)

    agreed: dict[str, list[bool | None]] = {"all pairs": [], "pairs with the group's teacher": []}
    for language, one, other in pairs():
        agrees = None
        if one in better[language, other] or other in better[language, one]:
            agrees = (bits(language, one) < bits(language, other)) == (one in better[language, other])
        agreed["all pairs"].append(agrees)
        if language in (one, other):
            agreed["pairs with the group's teacher"].append(agrees)
    return [order_claim(name, agrees) for name, agrees in agreed.items()]


def order_claim(name: str, agrees: list[bool | None]) -> Claim:
    """Returns the claim about some pairs.

    Args:
      agrees: whether the students of each pair are in the order of their teachers; None if that order is not clear.
    """
    decided = [agreed for agreed in agrees if agreed is not None]
    unclear = len(agrees) - len(decided)
    return Claim(
        f"4: students that differ in one language's teacher, {name}",
        "nine of ten in the order that the comparison of teachers says",
        f"{sum(decided)} of {len(decided)}" + (f"; {unclear} pairs without a clear difference" if unclear else ""),
        sum(decided) >= 0.9 * len(decided) if decided else None,
    )


def _ablation_table(root: Path) -> list[str]:
    rows = []
    for name in ablations():
        scores = json.loads((root / "students" / f"ablation-{name}" / "evaluation.json").read_text())["languages"]
        figures = [(scores[language]["accuracy"], scores[language]["nll"]) for language in scores]
        accuracy, nll = (mean(column) for column in zip(*figures, strict=True))
        rows.append([name, f"{accuracy:.4f}", f"{nll:.4f}"])
    base = float(rows[0][2])
    rows = [[*row, f"{float(row[2]) - base:+.4f}"] for row in rows]
    return [
        format_table(["changed", "accuracy", "NLL", "NLL beside base"], rows, is_markdown=True),
        "",
        f"Students of the related languages' teachers, {ABLATION_STEPS} steps, one seed; means over the languages of the held-out "
        "figures. *base*: the start student's recipe, k = 8, 8 samples of the tail, λ = 0.8, `token_identity: family`. "
        "*start-random* and *start-rows* have no encoder of a teacher: like the random student, they have half of the learning "
        "rate and begin with short sequences. *start-encoder* has the encoder of a teacher but no token rows. "
        "*start-orthogonal* and the two after it align the teachers' rows.",
    ]


def _with_interval(result: dict) -> str:
    return f"{result['value']:.3f} [{result['low']:.3f}, {result['high']:.3f}]"


def _listed(names: Iterable[str], values: Iterable[float], form: str = ".3f") -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in zip(names, values, strict=True))
