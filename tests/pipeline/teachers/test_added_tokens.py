"""Teachers' added tokens in the default tokenizer: runs of spaces, and others that its normalizer makes one or nothing."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from pipeline.config import PipelineConfig
from pipeline.job.launcher import dry_run, run_pipeline
from schemas.errors import UserError
from tests.support import world
from tests.support.teachers import load, make_default

# As ModernBERT and the GPT-NeoX and OLMo lines have them, and pairs that normalization makes equal.
SPACES = [AddedToken(" " * count, normalized=True, special=False) for count in range(2, 25)]
PAIRS = [
    "caf\u00e9",
    "cafe\u0301",
    "a\u00a0b",
    "a b",
    "\t",
    "\u3000",
    "x ",
    "x",
    "<mask>",
    "▁",
    "▁the",
    "<0x41>",
    "\u200b",
]


@pytest.fixture(scope="module")
def folders(teachers, tmp_path_factory) -> dict[str, Path]:
    """A ModernBERT-like teacher beside the small world's."""
    tokenizer = world.make_tokenizer("bpe", world.sentences("en", 100))
    tokenizer.add_tokens(SPACES)
    folder = tmp_path_factory.mktemp("spaces")
    tokenizer.save_pretrained(folder)
    return {"spaces": folder} | {name: teachers / name for name in world.TEACHERS}


def test_runs_of_spaces(folders, tmp_path):
    teachers = [load(folder, name) for name, folder in folders.items()]
    tokenizer, vocabulary = make_default(teachers, tmp_path)
    for role, name in (("mask", "mask"), ("pad", "pad"), ("start", "cls"), ("end", "sep"), ("unknown", "unk")):
        assert getattr(tokenizer, f"{name}_token_id") == vocabulary.id_of(role)
    assert tokenizer("the     river")["input_ids"] == tokenizer("the river")["input_ids"]
    assert tokenizer.decode(tokenizer("the     river")["input_ids"], skip_special_tokens=True) == "the river"


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PAIRS) | st.text(min_size=1, max_size=3), st.booleans(), st.booleans(), st.booleans()
        ),
        max_size=12,
    )
)
def test_any_added_tokens(folders, tmp_path_factory, added):
    own = world.make_tokenizer("bpe", world.sentences("en", 30))
    for content, normalized, special, strips in added:
        own.add_tokens(
            [AddedToken(content, normalized=normalized, special=special, lstrip=strips, rstrip=strips)],
            special_tokens=special,
        )
    folder = tmp_path_factory.mktemp("added")
    own.save_pretrained(folder)
    teachers = [load(folder, "added"), load(folders["ru-unigram"], "ru"), load(folders["en-wordpiece"], "en")]
    tokenizer, vocabulary = make_default(teachers, folder / "default")
    assert tokenizer.mask_token_id == vocabulary.id_of("mask")
    for line in ["the river café", "река <mask> a b", *(content for content, *_ in added)]:
        ids = tokenizer(line)["input_ids"]
        assert 0 <= min(ids) and max(ids) < len(vocabulary)
        tokenizer.decode(ids)


def test_a_tokenizer_that_fails_does_so_before_a_teacher_runs(pipeline_settings, tmp_path, monkeypatch):
    """In the run and in the dry run, whichever tokenizer it is."""

    def fail(*arguments):
        raise RuntimeError("cannot be fitted")

    def predict(*arguments):
        raise AssertionError("a teacher ran")

    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "out"))
    monkeypatch.setattr("pipeline.job.launcher.process", predict)
    monkeypatch.setattr("pipeline.job.launcher.load_teacher", predict)
    for broken in (
        "pipeline.student_tokenizers.store.default_tokenizer",
        "pipeline.job.launcher.remap_tokenizer",
        "pipeline.job.launcher.count_words",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(broken, fail)
            for command in (run_pipeline, dry_run):
                with pytest.raises(UserError, match="cannot be fitted"):
                    command(config, [])
