"""Damaged files of a teacher's tokenizer: used with the ids in the files, or refused in one line."""

import copy
import json
import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer, normalizers

from pipeline.config import PipelineConfig, TeacherConfig
from pipeline.shard.sequences import make_sequences
from pipeline.student_tokenizers.remap import check_remapped, remap_tokenizer
from pipeline.teachers.exact_tokenizer import tokenizer_faults
from pipeline.teachers.tokenizer import load_tokenizer
from pipeline.vocabulary.merge import merge
from schemas.corpus.records import Record
from schemas.errors import UserError, first_line
from tests.support import world

LINES = [*world.sentences("en", 10), "a <mask> [MASK] é  x", ""]
VALUES = [None, 0, -1, 1, 2**31, 10**30, 1e30, -0.5, True, "", "x", "<mask>", [], [None], ["a", "b"], {}, {"a": None}]
CONFIGS = {"wordpiece": "bert", "unigram": "xlm-roberta", "bpe": "roberta"}


def load(folder: Path):
    return load_tokenizer("t", TeacherConfig(model=str(folder), languages=["x"]))


def write(folder: Path, files: dict) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, dict]:
    """The parsed tokenizer files of each family, small enough to be mutated a thousand times."""
    made = {}
    for family, kind in CONFIGS.items():
        tokenizer = world.make_tokenizer(family, world.sentences("en", 30), 60)
        tokenizer.add_tokens(["New York"])
        folder = tmp_path_factory.mktemp(family)
        tokenizer.save_pretrained(folder)
        made[family] = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in folder.iterdir()}
        made[family]["config.json"] = {"model_type": kind, "vocab_size": 60}
        made[family]["special_tokens_map.json"] = {"mask_token": tokenizer.mask_token, "pad_token": tokenizer.pad_token}
        made[family]["added_tokens.json"] = {"New York": tokenizer.convert_tokens_to_ids("New York")}
    return made


def places(value, path=()):
    """Yields the paths of all members of a JSON value, but only some members of a long list or dict."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, member in items[:12] + items[-3:]:
        yield (*path, key)
        yield from places(member, (*path, key))


def mutate(source: random.Random, files: dict) -> dict:
    """The files with one fault: a value is dropped, replaced, doubled or moved, or a file is cut short or missing."""
    files = copy.deepcopy(files)
    name = source.choice(sorted(files))
    action = source.choice(["cut", "gone", "whole", *["value"] * 12])
    if action == "gone":
        del files[name]
    elif action == "cut":
        text = json.dumps(files[name])
        files[name] = text[: source.randrange(len(text))]
    elif action == "whole":
        files[name] = source.choice(VALUES)
    else:
        *path, key = source.choice(list(places(files[name])))
        parent = files[name]
        for step in path:
            parent = parent[step]
        change = source.choice(["drop", "double", "swap", "set", "set", "set"])
        if change == "drop":
            del parent[key]
        elif change == "double" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif change == "swap":
            parent[key] = copy.deepcopy(source.choice(list(parent.values() if isinstance(parent, dict) else parent)))
        else:
            parent[key] = source.choice(VALUES)
    return files


@pytest.mark.parametrize("family", list(CONFIGS))
def test_any_fault_is_one_line_or_harmless(files, family, tmp_path):
    used = 0
    for seed in range(120):
        folder = tmp_path / str(seed)
        mutated = mutate(random.Random(f"{family} {seed}"), files[family])
        write(folder, mutated)
        try:
            teacher = load(folder)
            vocabulary = merge([teacher])
            with tokenizer_faults("not with merged ids"):
                remapped = remap_tokenizer(teacher.hf, vocabulary.to_merged("t"))
                check_remapped("teacher 't'", teacher.hf, remapped, vocabulary.to_merged("t"), LINES)
        except UserError as error:
            assert "\n" not in str(error) and len(str(error).replace(str(folder), "")) > 40, (seed, error)
            continue
        used += 1
        # The mutated tokenizer.json itself says which ids are right.
        published = Tokenizer.from_str(json.dumps(mutated["tokenizer.json"])) if "tokenizer.json" in mutated else None
        if published:
            published.no_truncation()
            published.no_padding()
            for line in LINES:
                assert teacher.hf.backend_tokenizer.encode(line).ids == published.encode(line).ids, seed
    assert 10 < used < 110


@pytest.mark.parametrize("kind", ["XLMTokenizer", "FlaubertTokenizer", "RoFormerTokenizer", "PhobertTokenizer"])
def test_a_python_tokenizer_is_called_so(files, kind, tmp_path):
    """This holds whether or not the packages that it needs are installed; a tokenizer.json is used if there is one."""
    vocabulary = {"vocab.json": {"<s>": 0, "</s>": 1}, "merges.txt": "a b 1\n"}
    vocabulary |= {"vocab.txt": "a 1\n", "bpe.codes": "a b\n"}
    settings = {"tokenizer_class": kind, "mask_token": "[MASK]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    write(tmp_path, vocabulary | {"config.json": {"model_type": "bert"}, "tokenizer_config.json": settings})
    with pytest.raises(UserError, match="Python code.*add a tokenizer.json to its files"):
        load(tmp_path)
    write(tmp_path, {"tokenizer.json": files["wordpiece"]["tokenizer.json"]})
    assert load(tmp_path).roles["mask"] == 4


@pytest.mark.parametrize(
    ("length", "expected"), [(None, None), (512, 512), (1e30, 10**30), (0, ""), (-1, ""), ("512", ""), (True, "")]
)
def test_model_max_length(files, length, expected, tmp_path):
    settings = files["bpe"]["tokenizer_config.json"] | {"model_max_length": length}
    write(tmp_path, files["bpe"] | {"tokenizer_config.json": settings})
    if expected == "":
        with pytest.raises(UserError, match=f"its model_max_length is {length!r}, not a number"):
            load(tmp_path)
    else:
        assert load(tmp_path).hf.model_max_length >= (expected or 10**20) * 0.99


def test_two_tokens_with_one_id(files, tmp_path):
    state = copy.deepcopy(files["wordpiece"]["tokenizer.json"])
    state["model"]["vocab"]["twin"] = state["model"]["vocab"]["a"]
    write(tmp_path, files["wordpiece"] | {"tokenizer.json": state})
    with pytest.raises(UserError, match="its tokens 'a' and 'twin' both have the id"):
        load(tmp_path)


@pytest.mark.parametrize("family", ["wordpiece", "bpe"])
def test_ids_with_gaps_are_exact(files, family, tmp_path):
    """The second half of the vocabulary starts at 1000."""
    mutated = copy.deepcopy(files[family])
    state = mutated["tokenizer.json"]
    state["model"]["vocab"] = {
        token: token_id + 1000 * (token_id > 40) for token, token_id in state["model"]["vocab"].items()
    }
    state["added_tokens"] = [added for added in state["added_tokens"] if added["content"] != "New York"]
    mutated["tokenizer_config.json"].pop("added_tokens_decoder", None)
    del mutated["added_tokens.json"]
    write(tmp_path, mutated)
    teacher = load(tmp_path)
    assert teacher.size > 1000 > len(teacher.tokens)
    vocabulary = merge([teacher])
    remapped = remap_tokenizer(teacher.hf, vocabulary.to_merged("t"))
    check_remapped("teacher 't'", teacher.hf, remapped, vocabulary.to_merged("t"), LINES)
    published = Tokenizer.from_str(json.dumps(state))
    assert [teacher.hf(line)["input_ids"] for line in LINES] == [published.encode(line).ids for line in LINES]


def test_a_tokenizer_that_differs_with_merged_ids_is_refused(files, tmp_path):
    write(tmp_path, files["wordpiece"])
    teacher = load(tmp_path)
    to_merged = merge([teacher]).to_merged("t")
    remapped = remap_tokenizer(teacher.hf, to_merged)
    remapped.backend_tokenizer.normalizer = normalizers.Replace("a", "b")
    with pytest.raises(UserError, match="^teacher 't': text.en: with merged ids, its tokenizer segments .*differently"):
        check_remapped("teacher 't': text.en", teacher.hf, remapped, to_merged, LINES)


def test_an_expression_without_end_is_one_line(files, tmp_path):
    """The library fails on it with a panic, which is not an Exception."""
    state = copy.deepcopy(files["wordpiece"]["tokenizer.json"])
    pattern = {"type": "Split", "pattern": {"Regex": r"(\w+\s?)*$"}, "behavior": "Isolated", "invert": False}
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [pattern, state["pre_tokenizer"]]}
    write(tmp_path, files["wordpiece"] | {"tokenizer.json": state})
    config = PipelineConfig(output="x", teachers={"t": {"model": str(tmp_path), "languages": ["x"]}}, text={"x": ["x"]})
    with pytest.raises(UserError, match="its tokenizer fails on the text: .*retry-limit"):
        make_sequences([Record("a.txt", 0, "word " * 40 + "!")], load(tmp_path), config)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("\n\n it is so \n more", "it is so"),
        ("One of: \n(1) this or\n(2) that\nmore", "One of: (1) this or (2) that"),
        ("1 validation error for C\nname\n  Missing [type=x]", "1 validation error for C name Missing [type=x]"),
        ("", "ValueError"),
        ("'model'", "ValueError: 'model'"),
    ],
)
def test_first_line_says_something(said, line):
    assert first_line(ValueError(said)) == line
