"""Configurations that the pipeline refuses before any work."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from pipeline.config import PipelineConfig
from schemas.config import load_config
from schemas.errors import UserError
from tests.support import world
from tests.support.commands import call


def _mask_less_teacher(folder: Path) -> str:
    tokenizer = world.make_tokenizer("wordpiece", world.sentences("en", 50))
    tokenizer.mask_token = None
    tokenizer.save_pretrained(folder / "maskless")
    return str(folder / "maskless")


CASES = {
    "missing file": (lambda s, tmp: s["text"].update(en=["no/such.txt"]), "text.en: no file matches 'no/such.txt'"),
    "unknown language": (
        lambda s, tmp: s["teachers"]["hi-bpe"]["languages"].append("xx"),
        "`text` does not have the language 'xx'",
    ),
    "no mask token": (
        lambda s, tmp: s["teachers"]["en-wordpiece"].update(model=_mask_less_teacher(tmp)),
        "no mask token",
    ),
    "k too large": (lambda s, tmp: s.update(top_k=100000), "top_k is 100000, but its vocabulary has"),
    "no tail": (
        lambda s, tmp: s.update(top_k=0, tail_samples=4),
        "tail_samples: tail samples are drawn outside the top_k, and top_k is 0",
    ),
    "too many samples": (
        lambda s, tmp: s.update(tail_samples=1025),
        "tail_samples: Input should be less than or equal",
    ),
    "too long": (lambda s, tmp: s.update(max_length=500), "max_length is 500, but the teacher reads at most"),
    "no such folder": (
        lambda s, tmp: s["teachers"]["hi-bpe"].update(model="./gone"),
        "teacher 'hi-bpe' (./gone): its tokenizer cannot be loaded: there is no such folder",
    ),
    "no such teacher": (
        lambda s, tmp: s["teachers"]["hi-bpe"].update(model="out/gone"),
        "(out/gone): its tokenizer cannot be loaded: there is no such folder, and as a hub id: ",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_pipelines_stop_at_once(case, pipeline_settings, tmp_path):
    change, message = CASES[case]
    settings = pipeline_settings(tmp_path / "out")
    change(settings, tmp_path)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    done = call("pipeline.__main__", tmp_path / "c.yaml")
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def shared(*languages) -> PipelineConfig:
    teachers = {f"t{number}": {"model": "m", "languages": of_one} for number, of_one in enumerate(languages)}
    return PipelineConfig(output="o", teachers=teachers, text={"de": ["x"], "fr": ["y"]})


def test_a_list_of_languages_stands_for_all_records_of_each():
    assert shared(["de", "fr"]) == shared({"de": "all", "fr": "all"})
    config = shared(["fr"], {"de": 0.6, "fr": "all"}, {"de": "all"}, {"de": 0.4})
    assert config.shares("de") == {"t1": 0.6, "t3": 0.4} and config.shares("fr") == {}
    # 0.1 is not exact in binary.
    assert len(shared(["fr"], *[{"de": 0.1}] * 10).shares("de")) == 10


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ([{"de": 0.6}, {"de": 0.3, "fr": "all"}], r"the teachers' shares of 'de' \(t0 0.6, t1 0.3\) sum to 0.9, not 1"),
        ([{"de": 0.6, "fr": "all"}], r"the teachers' shares of 'de' \(t0 0.6\) sum to 0.6, not 1"),
        ([{"de": 0.6}, {"de": 0.6, "fr": "all"}, {"de": "all"}], "sum to 1.2, not 1"),
        ([{"de": 1, "fr": "all"}], "expected `all` or a number between 0 and 1, not 1"),
        ([{"de": 0, "fr": "all"}], "expected `all` or a number between 0 and 1, not 0"),
        ([{"de": True, "fr": "all"}], "expected `all` or a number between 0 and 1, not True"),
        ([{"de": "half", "fr": "all"}], "expected `all` or a number between 0 and 1, not 'half'"),
        ([["de", "fr", "de"]], "has a language twice"),
        ([[]], "at least 1"),
        ([{}], "at least 1"),
    ],
)
def test_shares_that_are_none(languages, message):
    with pytest.raises(ValidationError, match=message):
        shared(*languages)


def test_the_line_of_a_fault_is_that_of_its_field(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "output: o\nteachers: {t: {model: m, languages: [de]}}\ntext: {de: [x]}\ntop_k: 0\ntail_samples: 4\n"
    )
    with pytest.raises(UserError, match="c.yaml:5: tail_samples: tail samples are drawn"):
        load_config(str(path), PipelineConfig)
