"""The runs behind each claim: teachers, students and evaluations."""

from itertools import combinations
from pathlib import Path
from typing import Any

from examples.claims.corpora import TREEBANKS
from examples.claims.runs import ANNEALED, DISTILLATION, ENCODER, TEACHER_STEPS, Runs, Teacher
from examples.schedule import Step

# Teachers of related and of unrelated languages, with their tokenizer families. Students start from the first one's encoder.
GROUPS = {
    "related": {"es": "wordpiece", "fr": "unigram", "it": "bpe"},
    "unrelated": {"en": "wordpiece", "zh": "unigram", "tl": "bpe"},
}
# A student reads each of its three languages for about as many steps as the teacher did.
STEPS = 3 * TEACHER_STEPS
# The students of each group: their initialization and their training signal.
STUDENTS = ("start", "random", "mlm-start", "mlm-random")
# Those that tag with the tokenizer of each language's teacher.
TAGGERS = ("start", "random")
GOLD = {"kd_weight": 0}
# The related languages with tags, and the evaluation of what they teach each other.
RELATED = [language for language in GROUPS["related"] if language in TREEBANKS]
TRANSFER = "transfer"

# Other teachers for French and Italian. Another one is the teacher itself after 1,000 of its steps.
SMALL = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 1, "intermediate_size": 256}
VARIANTS = {
    "fr": [
        Teacher("fr-small", "unigram", ("fr/train",), encoder=SMALL),
        Teacher("fr-other-tokenizer", "bpe", ("fr/train",), tokenizer_text=("zh/train",)),
        Teacher("fr-other-domain", "unigram", ("fr/interface",)),
    ],
    "it": [
        Teacher("it-small", "bpe", ("it/train",), encoder=SMALL),
        Teacher(
            "it-other-tokenizer",
            "wordpiece",
            ("it/train",),
            tokenizer_text=("en/train",),
            vocabulary=1000,
        ),
        Teacher("it-other-domain", "bpe", ("it/interface",)),
    ],
}
# The teachers of each language, for the student whose teachers overlap.
SEVERAL = {"es": ["multi-es-fr-en"], "fr": ["multi-es-fr-en", "multi-fr-en"], "en": ["multi-fr-en", "en"]}
# Held-out chapters behind the figures of claims 1 and 3.
QUALITY_CHAPTERS = 25
PAIR_STEPS = 500
PAIR_CHAPTERS = 400
ABLATION_STEPS = 500


def bert(**start: Any) -> dict[str, Any]:
    """Returns a student's section: a BERT of the teachers' size, initialized according to `start`."""
    return {"settings": {"model_type": "bert", **ENCODER}, **start}


def from_teachers(encoder: str, **more: Any) -> dict[str, Any]:
    """Returns a student's section: the encoder of one teacher, the token rows of all."""
    return bert(encoder_from=encoder, embeddings_from_teachers=True, **more)


def pair_teachers(language: str) -> list[str]:
    """Returns the teachers of a language whose students are compared: the group's, and less suitable ones."""
    return [
        language,
        f"{language}-1000",
        *(teacher.name for teacher in VARIANTS[language]),
        # A teacher of another language that reads this one's text.
        "es" if language == "fr" else "fr",
    ]


def pair(language: str, teacher: str) -> str:
    """Returns the capture in which a language has this teacher, and the other languages have the group's."""
    return "pair-base" if teacher == language else f"pair-{language}-{teacher}"


def plan(root: Path, has_tags: bool) -> list[Step]:
    """Returns all steps.

    Args:
      has_tags: whether `root/labels` has words with parts of speech for the languages of `TREEBANKS`.
    """
    runs = Runs(root)
    for group, families in GROUPS.items():
        _group(runs, group, families, has_tags)
    _pairs(runs)
    _several_teachers(runs, has_tags)
    _ablations(runs)
    return runs.steps


def _group(runs: Runs, group: str, families: dict[str, str], has_tags: bool) -> None:
    """Claims 1, 2 and 5: a student of three monolingual teachers, and its controls."""
    languages = list(families)
    for language, family in families.items():
        runs.teacher(Teacher(language, family, (f"{language}/train",)))
        runs.further(language)
    runs.capture(group, {language: [language] for language in languages}, kinds=("short", "long"))
    start, random = {"student": from_teachers(languages[0])}, {"student": bert(), "both_lengths": True}
    runs.student(f"{group}-start", group, STEPS, **start, distillation=ANNEALED)
    runs.student(f"{group}-random", group, STEPS, **random, distillation=ANNEALED)
    runs.student(f"{group}-mlm-start", group, STEPS, **start, distillation=GOLD)
    runs.student(f"{group}-mlm-random", group, STEPS, **random, distillation=GOLD)
    runs.evaluation(group, _models(group, languages), text=runs.heldout_text(languages, QUALITY_CHAPTERS))
    if has_tags:
        tagged = [language for language in languages if language in TREEBANKS]
        models = _models(group, tagged)
        taggers = {name: models[name] for name in (*TAGGERS, *tagged)}
        runs.evaluation(f"{group}-tagging", taggers, tagging=runs.tags(tagged), seeds=[0, 1, 2])


def _models(group: str, languages: list[str]) -> dict[str, dict[str, Any]]:
    """Returns the students of a group, each read with its teachers' tokenizers, and the teachers."""
    teachers = {language: language for language in languages}
    models: dict[str, dict[str, Any]] = {
        student: {"model": f"students/{group}-{student}", "languages": languages, "teachers": teachers}
        for student in STUDENTS
    }
    for suffix in ("", "-further"):
        models |= {f"{name}{suffix}": {"model": f"teachers/{name}{suffix}", "languages": [name]} for name in languages}
    return models


def _pairs(runs: Runs) -> None:
    """Claim 4: students that differ in one language's teacher, and the comparison of these teachers."""
    base = {name: [name] for name in GROUPS["related"]}
    runs.capture("pair-base", base, kinds=("short", "long"), max_records=PAIR_CHAPTERS)
    runs.student("student-pair-base", "pair-base", PAIR_STEPS, student=from_teachers("es"))
    models: dict[str, dict[str, Any]] = {
        "student-pair-base": {"model": "students/student-pair-base", "languages": list(VARIANTS)}
    }
    for language in VARIANTS:
        runs.checkpoint(language, 1000)
        for variant in VARIANTS[language]:
            runs.teacher(variant)
        for teacher in pair_teachers(language)[1:]:
            teachers = {name: [teacher if name == language else name] for name in GROUPS["related"]}
            capture = pair(language, teacher)
            runs.capture(capture, teachers, max_records=PAIR_CHAPTERS)
            runs.student(f"student-{capture}", capture, PAIR_STEPS, student=from_teachers("es"))
            models[f"student-{capture}"] = {"model": f"students/student-{capture}", "languages": [language]}
        candidates = {
            teacher: {"model": f"teachers/{teacher}", "languages": [language]} for teacher in pair_teachers(language)
        }
        runs.evaluation(
            f"candidates-{language}",
            candidates,
            text=runs.heldout_text([language], 15),
            comparison={"routing": str(runs.root / f"routing-{language}.yaml")},
        )
    runs.evaluation("pairs", models, text=runs.heldout_text(list(VARIANTS), 15))


def _several_teachers(runs: Runs, has_tags: bool) -> None:
    """Claims 3 and 5: two multilingual teachers and a specialised one with overlapping languages."""
    runs.teacher(Teacher("multi-es-fr-en", "wordpiece", ("es-fr-en/train",), vocabulary=6000))
    runs.teacher(Teacher("multi-fr-en", "unigram", ("fr-en/train",), vocabulary=5000))
    runs.capture("several", SEVERAL)
    runs.student("several-start", "several", STEPS, student=from_teachers("multi-es-fr-en"), distillation=ANNEALED)
    models: dict[str, dict[str, Any]] = {"student": {"model": "students/several-start"}}
    for teacher in dict.fromkeys(name for names in SEVERAL.values() for name in names):
        languages = [language for language, names in SEVERAL.items() if teacher in names]
        models[teacher] = {"model": f"teachers/{teacher}", "languages": languages}
    runs.evaluation("several", models, text=runs.heldout_text(list(SEVERAL), QUALITY_CHAPTERS))
    if has_tags:
        default: dict[str, Any] = {"tokenizer": "default"}
        taggers: dict[str, dict[str, Any]] = {"several": models["student"] | default}
        taggers |= {
            student: {"model": f"students/related-{student}", "languages": RELATED} | default for student in STUDENTS
        }
        taggers |= {name: {"model": f"teachers/{name}", "languages": [name]} for name in SEVERAL}
        runs.evaluation(TRANSFER, taggers, tagging=runs.tags(list(SEVERAL)), seeds=[0, 1, 2])


def _ablations(runs: Runs) -> None:
    """The ablations: the student that starts from its teachers, with one setting changed at a time."""
    languages = list(GROUPS["related"])
    teachers = {language: [language] for language in languages}
    captures = {
        "k1": {"top_k": 1},
        "k32": {"top_k": 32},
        "samples-32": {"tail_samples": 32},
        "string": {"token_identity": "string"},
    }
    for name, settings in captures.items():
        runs.capture(f"ablation-{name}", teachers, max_records=PAIR_CHAPTERS, **settings)
    for name, (capture, settings) in ablations().items():
        runs.student(f"ablation-{name}", capture, ABLATION_STEPS, **({"student": from_teachers("es")} | settings))


def distillation(**changed: Any) -> dict[str, Any]:
    """Returns a student's `distillation` section with changes."""
    return {"distillation": DISTILLATION | changed}


def ablations() -> dict[str, tuple[str, dict[str, Any]]]:
    """Returns, by name, the capture that a student is trained on and the changes of its configuration."""
    return {
        "base": ("pair-base", {}),
        "k1": ("ablation-k1", {}),
        "k32": ("ablation-k32", {}),
        "samples-32": ("ablation-samples-32", {}),
        "lambda-0": ("pair-base", distillation(kd_weight=0)),
        "lambda-0.2": ("pair-base", distillation(kd_weight=0.2)),
        "lambda-0.5": ("pair-base", distillation(kd_weight=0.5)),
        "lambda-1": ("pair-base", distillation(kd_weight=1)),
        "lambda-1-to-0": ("pair-base", distillation(kd_weight=1, final_kd_weight=0)),
        "tail-bucket": ("pair-base", distillation(tail="bucket")),
        "tail-renormalize": ("pair-base", distillation(tail="renormalize")),
        "tail-ignore": ("pair-base", distillation(tail="ignore")),
        "identity-string": ("ablation-string", {}),
        "start-random": ("pair-base", {"student": bert(), "both_lengths": True}),
        "start-encoder": ("pair-base", {"student": bert(encoder_from="es")}),
        "start-rows": ("pair-base", {"student": bert(embeddings_from_teachers=True), "both_lengths": True}),
        "start-orthogonal": ("pair-base", {"student": from_teachers("es", token_alignment="orthogonal")}),
        "start-least-squares": ("pair-base", {"student": from_teachers("es", token_alignment="least_squares")}),
        "start-omp": ("pair-base", {"student": from_teachers("es", token_alignment="omp")}),
    }


def pairs() -> list[tuple[str, str, str]]:
    """Returns (language, one teacher, another) for each pair whose students are compared."""
    return [(language, *two) for language in VARIANTS for two in combinations(pair_teachers(language), 2)]
