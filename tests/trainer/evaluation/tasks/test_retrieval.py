"""Retrieval, compared with a plain loop."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from schemas.errors import UserError
from tests.support import world
from tests.support.labelled import evaluation, load_model, make_student
from trainer.evaluation.tasks.retrieval import Retrieval
from trainer.evaluation.tasks.task import Job


def write(folder, name: str, sources: list[str], targets: list[str]) -> list[str]:
    files = [folder / f"{name}.en", folder / f"{name}.ru"]
    for file, lines in zip(files, (sources, targets), strict=True):
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [str(file) for file in files]


def means(folder, language: str, lines: list[str], layer: int) -> np.ndarray:
    """The mean over each sentence's tokens except the first and last, one sentence at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder, subfolder=f"tokenizers/{language}")
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    rows = []
    for line in lines:
        encoded = tokenizer(line, truncation=True, max_length=24, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**encoded, output_hidden_states=True).hidden_states[layer][0]
        rows.append(hidden[1:-1].mean(0).numpy())
    return np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)


def nearest(folder, sources, targets, layer):
    cosines = means(folder, "en", sources, layer) @ means(folder, "ru", targets, layer).T
    numbers = np.arange(len(sources))
    return cosines.argmax(1) == numbers, cosines.argmax(0) == numbers


@pytest.mark.parametrize("validation", [False, True])
def test_accuracy_is_that_of_a_plain_loop(tmp_path, teachers, validation):
    folder = make_student(tmp_path / "student", teachers)
    sources = world.sentences("en", 60)
    # Shared words make pairs similar, so that some neighbours are right.
    targets = [f"{line} 1999" if row % 2 else world.sentences("ru", 60)[row] for row, line in enumerate(sources)]
    given = {"languages": ["en", "ru"], "files": write(tmp_path, "test", sources[:40], targets[:40])}
    scored, chosen = [row for row in range(40) if row % 5], range(0, 40, 5)
    if validation:
        given["validation"] = write(tmp_path, "validation", sources[40:], targets[40:])
        scored, chosen = range(40), range(40, 60)
    config = evaluation(
        tmp_path, models={"s": {"model": str(folder), "languages": ["en"]}}, retrieval={"p": given}, max_length=24,
        batch_tokens=256,
    )  # fmt: skip
    task = Retrieval.from_config(config)
    (job,) = task.jobs("s", config.models["s"])
    assert (job.language, job.seed) == ("p", None)
    forth, back = task.run(job, load_model(config, "s"))
    assert [forth.language, back.language] == ["p: en→ru", "p: ru→en"]
    assert [list(task.test_files(scores.language)) for scores in (forth, back)] == [given["files"]] * 2

    def lines(rows):
        return [sources[row] for row in rows], [targets[row] for row in rows]

    layer = max(range(2), key=lambda layer: np.sum(nearest(folder, *lines(chosen), layer)))
    right = nearest(folder, *lines(scored), layer)
    assert forth.figures == back.figures == {"layer": layer}
    for scores, right_U in zip((forth, back), right, strict=True):
        assert scores.ratios["accuracy"].numerators_U.tolist() == right_U.tolist()
        assert scores.ratios["accuracy"].denominators_U.tolist() == [1] * len(scored)
    assert 0 < forth.ratios["accuracy"].value < 1


def test_too_few_sentences_are_refused(tmp_path):
    given = {"languages": ["en", "ru"], "files": write(tmp_path, "test", ["sea"] * 4, ["море"] * 4)}
    config = evaluation(tmp_path, models={"m": {"model": "x"}}, retrieval={"p": given})
    with pytest.raises(UserError, match=r"test\.en: has 4 sentences; 5 are needed"):
        Retrieval.from_config(config)


def test_the_pairs_are_in_the_fingerprint(tmp_path):
    def fingerprint(word: str) -> str:
        given = {"languages": ["en", "ru"], "files": write(tmp_path, "test", ["sea"] * 6, [*["море"] * 5, word])}
        return Retrieval.from_config(
            evaluation(tmp_path, models={"m": {"model": "x"}}, retrieval={"p": given})
        ).fingerprint(Job("retrieval", "m", "p"))

    assert fingerprint("река") == fingerprint("река") != fingerprint("дом")


def test_each_way_of_each_pair_has_a_name_of_its_own(tmp_path, teachers):
    """Otherwise two corpora of the same languages would look like two runs on one corpus."""
    files = write(tmp_path, "test", world.sentences("en", 10), world.sentences("ru", 10))
    given = {
        "p": {"languages": ["en", "ru"], "files": files},
        "q": {"languages": ["en", "ru"], "files": files},
        "r": {"languages": ["en", "en"], "files": [files[0], files[0]]},
    }
    config = evaluation(tmp_path, models={"m": {"model": str(teachers / "en-wordpiece")}}, retrieval=given)
    task = Retrieval.from_config(config)
    model = load_model(config, "m")
    names = [scores.language for job in task.jobs("m", config.models["m"]) for scores in task.run(job, model)]
    assert names == ["p: en→ru", "p: ru→en", "q: en→ru", "q: ru→en", "r: en→en", "r: en→en back"]
