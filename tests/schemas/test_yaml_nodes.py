"""YAML that would be read as something else than intended, or as something huge, gives a one-line error."""

import time

import pytest

from pipeline.config import PipelineConfig
from schemas.config import load_config
from schemas.errors import UserError, printable
from trainer.config import TrainerConfig

BASE = "output: y\nteachers:\n  t: {model: m, languages: [fr]}\ntext: {fr: [x.txt]}\n"
_BOMB = "x0: &x0 [y,y,y,y,y,y,y,y,y]\n" + "".join(
    f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
REFUSED = {
    "billion laughs": (_BOMB + BASE, "repeated aliases give more than"),
    "billion laughs of sections": (
        "x0: &x0 {a: 1}\n"
        + "".join(f"x{i}: &x{i} {{{','.join(f'k{j}: *x{i - 1}' for j in range(9))}}}\n" for i in range(1, 10)),
        "repeated aliases give more than",
    ),
    "recursive list": ("x: &x [*x]\n" + BASE, "c.yaml:1: nested too deeply"),
    "recursive section": ("x: &x {a: *x}\n" + BASE, "c.yaml:1: nested too deeply"),
    "deep": ("x: " + "[" * 3000 + "]" * 3000 + "\n" + BASE, "nested too deeply"),
    "rather deep": ("x: " + "[" * 60 + "]" * 60 + "\n" + BASE, "c.yaml:1: nested too deeply"),
    "list as key": ("? [a, b]\n: c\n" + BASE, "c.yaml:1: a list or a section cannot be the name"),
    "section as key": ("? {a: b}\n: c\n" + BASE, "c.yaml:1: a list or a section cannot be the name"),
    "many digits": (BASE + "seed: " + "9" * 5000, "c.yaml:5: an integer of 5,000 digits"),
    "no such date": (BASE + "seed: 2020-13-99", "c.yaml:5: .*timestamp to YAML.*quotes"),
    "date": (BASE + "extends: 2020-01-02", 'c.yaml:5: .*timestamp to YAML.*quotes: "2020-01-02"'),
    "integer by tag": (BASE + "seed: !!int abc", "c.yaml:5: `abc` is an integer to YAML, in an unusual form"),
    "float by tag": (BASE + "max_rejected: !!float abc", "c.yaml:5: `abc` is a number to YAML"),
    "boolean by tag": (BASE + "packing: !!bool abc", "c.yaml:5: `abc` is not true or false"),
    "nothing by tag": (BASE + "extends: !!null abc", "c.yaml:5: `abc` is not nothing"),
    "text by tag": (BASE + "extends: !!str [a]", "c.yaml:5: the value is not text, as the tag before it says; remove the tag"),
    "text by tag that may be a file": (
        BASE.replace("teachers:\n  t: {model: m, languages: [fr]}", "teachers: !!str [a]"),
        "c.yaml:2: the value is not text",
    ),
    "integer by tag of a section": (BASE + "seed: !!int {a: b}", "c.yaml:5: the value is not an integer"),
    "section by tag": (BASE + "masking: !!map [a]", "c.yaml:5: the value is not a section"),
    "list by tag": (BASE + "masking: !!seq a", "c.yaml:5: the value is not a list"),
    "octal": (BASE + "seed: 0123", "c.yaml:5: `0123` is an integer to YAML, in an unusual form"),
    "base 60": (BASE + "seed: 12:30:45", "c.yaml:5: `12:30:45` is an integer to YAML, in an unusual form"),
    "infinite": (BASE + "max_rejected: .inf", "c.yaml:5: `.inf` is a number to YAML, in an unusual form"),
    "infinite text": (BASE + "max_rejected: inf", "c.yaml:5: max_rejected"),
    "not a number": (BASE + "max_rejected: .NaN", "c.yaml:5: `.NaN` is a number to YAML, in an unusual form"),
    "object": (BASE + "seed: !!python/object/apply:os.system [ls]", "c.yaml:5: a python/object/apply:os.system"),
    "own tag": (BASE + "seed: !mine 3", "c.yaml:5: .*!mine"),
    "binary": (BASE + "extends: !!binary AAAA", "c.yaml:5: .*binary"),
    "set": (BASE + "masking: !!set {a, b}", "c.yaml:5: a set"),
    "merge": ("masking: &m {mlm_probability: 0.2}\n" + BASE + "x:\n  <<: *m", "c.yaml:7: .*merge"),
    "tab": (BASE + "masking:\n\tmlm_probability: 0.1", "c.yaml:6: not valid YAML"),
    "two documents": (BASE + "---\n" + BASE, "c.yaml:5: not valid YAML"),
    "given twice": (BASE + "seed: 1\nseed: 2", "c.yaml:6: seed: given twice"),
    "control character": (BASE + "output2: a\x07", "c.yaml:5: not valid YAML"),
    "NUL": (BASE + 'extends: "a\\0b"', "c.yaml:5: contains a NUL character"),
    "NUL in a key": (BASE + '"a\\0b": 1', "c.yaml:5: contains a NUL character"),
    "huge": (BASE + "#" * 2**20, "more than 1,048,576 bytes"),
    "Norway as a key": ("output: y\ntext:\n  no: [x.txt]\n", 'c.yaml:3: `no` is true or false .* quotes: "no"'),
    "Norway as a value": (BASE.replace("[fr]", "[fr, no]"), 'c.yaml:3: teachers.*`no` is true or false .*"no"'),
    "on": (BASE.replace("{fr:", "{on:"), 'c.yaml:4: `on` is true or false .*"on"'),
    "number as a language": (BASE.replace("{fr:", "{12:"), 'c.yaml:4: `12` is an integer .*"12"'),
    "number in a list": (BASE.replace("[fr]", "[1.5]"), 'c.yaml:3: .*`1.5` is a number .*"1.5"'),
    "tilde": (BASE.replace("[fr]", "[~]"), 'c.yaml:3: .*`~` is nothing .*"~"'),
    "empty": (BASE.replace("output: y", "output:"), "c.yaml:1: output: is empty"),
    "path as a language": (BASE.replace("fr", "../../x"), "c.yaml:3: teachers.*'../../x' cannot be a name"),
    "path as a teacher": (BASE.replace("  t: ", "  ../t: "), "'../t' cannot be a name"),
    "long name": (BASE.replace("fr", "f" * 101), "cannot be a name"),
    "name with a line end": (BASE.replace("{fr:", '{"fr\\n":'), "cannot be a name"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_one_line_at_once(case, tmp_path):
    content, message = REFUSED[case]
    path = tmp_path / "c.yaml"
    path.write_text(content)
    before = time.process_time()
    with pytest.raises(UserError, match=message) as raised:
        load_config(str(path), PipelineConfig)
    assert time.process_time() - before < 3 and len(str(raised.value)) < 1000
    assert "\n" not in printable(str(raised.value))


def test_what_people_write_is_read(tmp_path):
    path = tmp_path / "c.yaml"
    files = "&files [a.txt, '2020-01-02', \"no\"]"
    path.write_text(
        "output: y\nteachers:\n  t: {model: m, languages: [fr, 'no'], revision: null}\n"
        f"text: {{fr: {files}, 'no': *files}}\n"
        "masking: {mlm_probability: 2e-1, mask_replace_prob: .5, random_replace_prob: 0.1}\nseed: 1_000\nmax_rejected: 1.\npacking: yes\n"
    )
    config = load_config(str(path), PipelineConfig)
    assert config.text["no"].files == config.text["fr"].files == ["a.txt", "2020-01-02", "no"]
    assert (config.masking.mlm_probability, config.masking.mask_replace_prob, config.seed, config.packing) == (
        0.2,
        0.5,
        1000,
        True,
    )
    path.write_text(
        "output: y\npredictions: p\nstudent: {architecture_from: m}\nmax_steps: 3\noptimizer: {learning_rate: 5e-4}\n"
    )
    assert load_config(str(path), TrainerConfig).optimizer.learning_rate == 5e-4


def test_no_endless_file(tmp_path):
    with pytest.raises(UserError, match="more than 1,048,576 bytes"):
        load_config("/dev/zero", PipelineConfig)
    for path in (str(tmp_path), "a\0b"):
        with pytest.raises(UserError, match="cannot read the configuration"):
            load_config(path, PipelineConfig)
