"""Stages: each reads like a separate run, and a run can be resumed anywhere in them."""

import gc
import json
import re
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.config import load_config
from schemas.errors import UserError
from schemas.predictions import Predictions, open_predictions
from tests.support.readers import equal, reader, steps
from tests.support.training import (
    CONSTANT,
    assert_close_weights,
    assert_same_weights,
    launch_two,
    train,
    train_student,
    write_config,
)
from trainer.config import TrainerConfig
from trainer.data.reader import Reader
from trainer.data.stages import Stage, StagedReader, _check_fit, open_stages, stage_of


@pytest.fixture(scope="module")
def rates(run_pipeline, predictions, tmp_path_factory) -> dict[str, Path]:
    """The same text with three masking rates."""
    folder = tmp_path_factory.mktemp("rates")
    return {"15": predictions} | {
        rate: run_pipeline(folder / rate, masking={"mlm_probability": int(rate) / 100}) for rate in ("30", "05")
    }


def three_stages(rates: dict[str, Path]) -> dict:
    """Three stages that end after 4, 7 and 12 steps; the second reads the run's own predictions."""
    return {
        "max_steps": 12,
        "stages": [
            {"until": 0.34, "predictions": str(rates["30"])},
            {"until": 0.6, "alpha": 0},
            {"predictions": [str(rates["05"])], "alpha": 1},
        ],
    }


EVERY_STEP = {"optimizer": CONSTANT, "save_steps": 1, "save_total_limit": 20, "logging_steps": 1}


def staged_reader(config: TrainerConfig, lanes: int = 2, local_lanes=(0, 1)) -> StagedReader:
    opened = open_predictions(*config.predictions)
    return StagedReader(
        open_stages(config, opened),
        lambda stage: Reader(
            stage.predictions, stage.sampling, config.batch_tokens, stage.seed, lanes=lanes, local_lanes=local_lanes
        ),
    )


def all_equal(ours: list[list], theirs: list[list]) -> bool:
    return len(ours) == len(theirs) and all(
        equal(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.fixture(scope="module")
def config(rates, tmp_path_factory) -> TrainerConfig:
    path = write_config(tmp_path_factory.mktemp("stages"), rates["15"], None, **three_stages(rates))
    return load_config(str(path), TrainerConfig)


@pytest.mark.heavy
def test_a_stage_reads_as_a_reader_of_its_own(rates, config):
    stages = open_stages(config, open_predictions(*config.predictions))
    assert [stage.last_step for stage in stages] == [4, 7, 12]
    # The first stage has the seed of a run without stages. The seeds differ, so that stages over one text differ too.
    assert stages[0].seed == config.seed and len({stage.seed for stage in stages}) == 3
    actual = list(staged_reader(config))
    settings = {"batch_tokens": config.batch_tokens, "lanes": 2, "local_lanes": (0, 1), "shuffle_rows": 256}
    expected = []
    for rate, alpha, stage, count in zip(("30", "15", "05"), (0.7, 0, 1), stages, (4, 3, 5), strict=True):
        expected += steps(reader(rates[rate], seed=stage.seed, alpha=alpha, **settings), count)
    assert all_equal(actual, expected)
    masked = [sum(len(b.labels_M) for b in batches) / sum(b.tokens for b in batches) for batches in actual]
    assert min(masked[:4]) > max(masked[4:7]) > min(masked[4:7]) > max(masked[7:])


@pytest.mark.heavy
def test_it_goes_on_from_every_step(config):
    """This includes the ends of stages, after 4, 7 and all steps, and another number of processes."""
    source = staged_reader(config)
    iterator, whole, states = iter(source), [], [source.state()]
    for _ in range(config.max_steps):
        whole.append(next(iterator))
        states.append(json.loads(json.dumps(source.state())))
    for step in range(config.max_steps + 1):
        again = staged_reader(config)
        again.load_state(step, states[step])
        assert all_equal(list(again), whole[step:])
        alone = staged_reader(config, local_lanes=(1,))
        alone.load_state(step, states[step])
        assert all_equal(list(alone), [batches[1:] for batches in whole[step:]])


def test_a_reader_is_made_on_entering_its_stage_and_gone_on_leaving(predictions, tmp_path):
    path = write_config(tmp_path, predictions, None, max_steps=6, stages=[{"until": 0.5}, {"alpha": 0}])
    config, made = load_config(str(path), TrainerConfig), []

    def make(stage: Stage) -> Reader:
        reader = Reader(stage.predictions, stage.sampling, config.batch_tokens, stage.seed)
        made.append(weakref.ref(reader))
        return reader

    source = StagedReader(open_stages(config, open_predictions(*config.predictions)), make)
    alive = []
    for _ in source:
        gc.collect()
        alive.append([reference() is not None for reference in made])
    assert alive == [[True]] * 3 + [[False, True]] * 3
    assert source.state() == made[1]().state()


def test_another_teacher_of_the_same_name_is_refused(predictions):
    base = open_predictions(str(predictions))
    (manifest,) = base.manifests
    teachers = manifest.teachers | {"hi-bpe": manifest.teachers["hi-bpe"].model_copy(update={"fingerprint": "f" * 64})}

    def other(top_k: int) -> Predictions:
        return replace(base, manifests=[manifest.model_copy(update={"teachers": teachers, "top_k": top_k})])

    # If no model was run, only the teacher's tokenizer is known.
    _check_fit("stages: x", other(0), base)
    with pytest.raises(
        UserError, match="^stages: x: its teacher 'hi-bpe' has fingerprint ffffffffffff, but in .* run the pipeline"
    ):
        _check_fit("stages: x", other(8), base)


def test_which_stage_has_a_step():
    assert [stage_of([4, 7, 12], step) for step in (0, 1, 4, 5, 7, 8, 12, 13)] == [0, 0, 0, 1, 1, 2, 2, 2]


@pytest.mark.heavy
def test_a_run_in_stages_goes_on_to_the_same_weights(rates, tmp_path):
    """The run is killed within a stage, at the end of one, and right after it."""
    changes = three_stages(rates) | EVERY_STEP
    whole = train_student(tmp_path / "whole", rates["15"], **changes)
    for step in (2, 4, 5, 7):
        output = tmp_path / str(step) / "student"
        shutil.copytree(whole / "checkpoints" / f"{step:08d}", output / "checkpoints" / f"{step:08d}")
        train_student(tmp_path / str(step), rates["15"], **changes)
        assert_same_weights(whole, output)
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["alpha"]) for line in lines] == [(1, 0.7)] * 4 + [(2, 0)] * 3 + [(3, 1)] * 5
    card = (whole / "README.md").read_text()
    assert "Stage 2, steps 5 to 7: 0.15 of the tokens masked; languages drawn in proportion to p^0, where" in card
    assert str(rates["30"]) not in card and "- until: 0.34" in card
    # With other stages it is another run.
    spec = json.loads((whole / "run.json").read_text())["stages"]
    assert [stage["manifest_sha256"] for stage in spec] == [
        open_predictions(str(rates[rate])).sha256 for rate in ("30", "15", "05")
    ]
    for stages, message in (
        ([*changes["stages"][:2], {"predictions": str(rates["30"]), "alpha": 1}], "stages.2.manifest_sha256 was"),
        ([*changes["stages"][:2], {"predictions": str(rates["05"])}], "stages.2.alpha was 1.0, now 0.7"),
    ):
        with pytest.raises(UserError, match=message):
            train_student(tmp_path / "whole", rates["15"], **changes | {"stages": stages})
    with pytest.raises(UserError, match=r"max_steps was 12, now 14, but the stage \(stages\) depends on max_steps"):
        train_student(tmp_path / "whole", rates["15"], **changes | {"max_steps": 14})


@pytest.mark.heavy
def test_two_processes_go_on_from_a_border(rates, tmp_path):
    changes = three_stages(rates) | EVERY_STEP | {"micro_batches": 2}
    whole = train_student(tmp_path / "whole", rates["15"], **changes)
    config = write_config(tmp_path / "two", rates["15"], None, **changes)
    at_border = Path("student", "checkpoints", "00000004")
    shutil.copytree(tmp_path / "whole" / at_border, tmp_path / "two" / at_border)
    done = launch_two(config)
    assert done.returncode == 0, done.stderr
    assert_close_weights(whole, tmp_path / "two" / "student")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("of_stage", "message"),
    [
        (
            {"token_identity": "string"},
            r"stages: .*stage has the vocabulary \w+, but .*predictions has \w+; run the pipe.* --vocabulary-from",
        ),
        ({"top_k": 0}, "kd_weight is 0.5, but .*stage was made with top_k: 0"),
        (
            {"text": ["en", "ru"]},
            "stage has the languages en, ru, .*predictions has en, hi, ru; all stages need the same",
        ),
    ],
)
def test_stages_that_do_not_fit_are_refused(of_stage, message, run_pipeline, pipeline_settings, rates, tmp_path):
    if "text" in of_stage:
        text = pipeline_settings(tmp_path)["text"]
        # Hindi has text, but no text that becomes a row.
        (tmp_path / "empty.txt").write_text("\n")
        of_stage = {"text": {name: text[name] for name in of_stage["text"]} | {"hi": [str(tmp_path / "empty.txt")]}}
    run_pipeline(tmp_path / "stage", **of_stage)
    stages = [{"until": 0.5}, {"predictions": str(tmp_path / "stage")}]
    done = train(write_config(tmp_path / "run", rates["15"], None, stages=stages))
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert not (tmp_path / "run" / "student").exists()


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"until": 0.5}, {"until": 0.9}], "every stage but the last needs an `until`, and the last must have none"),
        ([{}, {}], "every stage but the last needs an `until`"),
        ([{"until": 0.5}, {"until": 0.5}, {}], "stage 2 would end at step 20, but it begins after step 20"),
        ([{"until": 0.01}, {}], "stage 1 would end at step 0"),
        ([{"until": 0.999}, {}], "stage 2 would end at step 40, but it begins after step 40"),
        ([{"until": 1.0}, {}], "stages.0.until: "),
        ([{"until": 0.5, "alpha": 2}, {}], "stages.0.alpha: "),
        ([{"until": 0.5, "rate": 0.3}, {}], "stages.0.rate: unknown field"),
        ([{"predictions": []}], "stages.0.predictions: "),
    ],
)
def test_stages_that_are_no_parts_of_a_run_are_refused(stages, message, tmp_path):
    path = write_config(tmp_path, "predictions", None, stages=stages)
    with pytest.raises(UserError) as refusal:
        load_config(str(path), TrainerConfig)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)
    # The line is that of the whole section or of one stage.
    line = int(str(refusal.value).removeprefix(f"{path}:").split(":")[0])
    assert line > path.read_text().splitlines().index("stages:")
