"""Adding a teacher: the merged vocabulary grows at its end, and earlier Parquet can be trained on together with the new."""

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer

from pipeline.config import TeacherConfig
from pipeline.student_tokenizers.remap import remap_tokenizer
from pipeline.teachers.tokenizer import load_tokenizer
from pipeline.vocabulary.merge import merge
from schemas.errors import UserError
from schemas.manifest import DEFAULT_TOKENIZER, TEACHER_TOKENIZERS
from schemas.predictions import open_predictions
from schemas.vocabulary import VOCABULARY_FILE, read_vocabulary
from tests.support import world
from tests.support.readers import reader, sequences, take
from tests.support.training import train, write_config
from trainer.config import SamplingConfig
from trainer.data.plan import make_mixture


@pytest.fixture(scope="module")
def grown(run_pipeline, pipeline_settings, tmp_path_factory):
    """(an earlier run of two teachers, a run of the third that extends it, its held-out text)."""
    folder = tmp_path_factory.mktemp("growth")
    settings = pipeline_settings(folder)

    def run(name: str, languages: set[str], **changes):
        chosen = {
            "teachers": {name: t for name, t in settings["teachers"].items() if languages & set(t["languages"])},
            "text": {language: patterns for language, patterns in settings["text"].items() if language in languages},
        }
        return run_pipeline(folder / name, **chosen, **changes)

    earlier = run("earlier", {"en", "ru"})
    later = run("later", {"hi"}, extends=str(earlier))
    heldout = run_pipeline(folder / "heldout", suffix=".heldout", extends=str(later))
    return earlier, later, heldout


def test_every_old_id_stays(grown, predictions):
    earlier, later, heldout = (read_vocabulary(str(folder / VOCABULARY_FILE)) for folder in grown)
    assert later.extends(earlier) and len(later) > len(earlier)
    assert heldout.sha256 == later.sha256
    # The teachers were added in the same order as in one run of all three.
    assert later.sha256 == read_vocabulary(str(predictions / VOCABULARY_FILE)).sha256


def test_rows_and_tokenizers_are_those_of_one_run(grown, predictions):
    """Growing in two runs gives the same result as one run of all teachers."""
    together = pd.read_parquet(predictions).set_index("example_id").sort_index()
    apart = pd.concat([pd.read_parquet(folder) for folder in grown[:2]]).set_index("example_id").sort_index()
    pd.testing.assert_frame_equal(apart[together.columns], together)
    for name in ("_words.parquet", f"{DEFAULT_TOKENIZER}/tokenizer.json"):
        assert (grown[1] / name).read_bytes() == (predictions / name).read_bytes()


def test_the_reader_mixes_old_and_new(grown, predictions):
    apart, together = reader(grown[:2]), reader(predictions)
    assert apart.languages == together.languages == ["en", "hi", "ru"]
    mixtures = [
        make_mixture(open_predictions(*map(str, folders)), SamplingConfig(), 0, 1)
        for folders in (grown[:2], [predictions])
    ]
    np.testing.assert_allclose(mixtures[0].row_shares, mixtures[1].row_shares)
    assert sequences(take(apart, 20)) == sequences(take(together, 20))


def test_a_student_is_trained_on_old_and_new(grown, tmp_path):
    earlier, later, heldout = grown
    folders = [str(earlier), str(later)]
    done = train(write_config(tmp_path, folders, heldout, max_steps=20))
    assert done.returncode == 0, done.stderr
    student, opened = tmp_path / "student", open_predictions(*folders)
    assert opened.newest == str(later)
    for name, language in world.TEACHERS.items():
        tokenizer = AutoTokenizer.from_pretrained(student, subfolder=f"tokenizers/{language}")
        teacher = AutoTokenizer.from_pretrained(opened.manifests[name == "hi-bpe"].teachers[name].model)
        for line in world.sentences(language, 20):
            expected = opened.vocabulary.to_merged(name)[teacher(line)["input_ids"]].tolist()
            assert tokenizer(line)["input_ids"] == expected
    assert len(AutoTokenizer.from_pretrained(student)) == len(opened.vocabulary)


def test_a_twin_adds_a_teacher_but_no_token(run_pipeline, pipeline_settings, grown, tmp_path):
    earlier = grown[0]
    settings = pipeline_settings(tmp_path)
    twin = {"twin": settings["teachers"]["en-wordpiece"]}
    text = {"en": settings["text"]["en"]}
    folder = run_pipeline(tmp_path / "twin", teachers=twin, text=text, extends=str(earlier), top_k=8)
    opened = open_predictions(str(earlier), str(folder))
    assert opened.newest == str(folder) and len(opened.vocabulary) == len(
        read_vocabulary(str(earlier / VOCABULARY_FILE))
    )
    # A chain: a run that extends an extension can be read together with the first run.
    third = run_pipeline(tmp_path / "third", extends=str(folder))
    assert open_predictions(str(earlier), str(third)).newest == str(third)
    names = {path.name for path in (third / "_tokenizers" / "teachers").iterdir()}
    assert names == {"twin", *world.TEACHERS}


def test_teachers_old_and_new_share_a_language(run_pipeline, pipeline_settings, grown, tmp_path):
    """The new run divides the rows between them; its vocabulary is the grown one, and both folders are read together."""
    earlier, later, _ = grown
    settings = pipeline_settings(tmp_path)
    shares = {"en-wordpiece": {"en": 0.6}, "hi-bpe": {"en": 0.4}}
    teachers = {name: settings["teachers"][name] | {"languages": languages} for name, languages in shares.items()}
    text = {"en": settings["text"]["en"]}
    folder = run_pipeline(tmp_path / "shared", teachers=teachers, text=text, extends=str(earlier))
    opened = open_predictions(str(earlier), str(folder))
    assert opened.newest == str(folder)
    assert opened.vocabulary.sha256 == read_vocabulary(str(later / VOCABULARY_FILE)).sha256
    alone, shared = (
        pd.read_parquet(one, filters=[("language", "==", "en")]).set_index("example_id") for one in (earlier, folder)
    )
    # The shares do not hold for rows: the other teacher turns its records into more tokens.
    assert set(shared.teacher) == set(shares)
    old = shared[shared.teacher == "en-wordpiece"]
    # The batches have other records now, so logits may differ in the last bits, and a float16 by one step.
    pd.testing.assert_frame_equal(old, alone.loc[old.index, old.columns], rtol=2**-10)


def test_folders_that_do_not_belong_together_are_refused(grown, run_pipeline, predictions, tmp_path):
    earlier, later, _ = grown
    settings = {"top_k": 4, "extends": str(earlier)}
    fewer = run_pipeline(tmp_path / "fewer", **settings)
    with pytest.raises(UserError, match="fewer: top_k is 4, but in .*earlier it is 8"):
        open_predictions(str(earlier), str(fewer))
    strings = run_pipeline(tmp_path / "strings", token_identity="string")
    with pytest.raises(UserError, match="later: its vocabulary .* is not contained in that of .*strings"):
        open_predictions(str(later), str(strings))
    with pytest.raises(UserError, match="identity is 'string', but .*earlier was made with 'family'"):
        run_pipeline(tmp_path / "p", token_identity="string", extends=str(earlier))
    # Another tokenizer under the same name.
    teachers = {"en-wordpiece": {"model": str(tmp_path / "t"), "languages": ["en", "hi", "ru"]}}
    world.make_teacher("ru-unigram", tmp_path / "t")
    with pytest.raises(UserError, match="teacher 'en-wordpiece': .* a teacher of that name with another tokenizer"):
        run_pipeline(tmp_path / "q", teachers=teachers, extends=str(earlier))


def test_a_student_of_ours_teaches(predictions, tmp_path):
    """Its tokenizer has fillers for other languages' tokens; these do not count as its own."""
    source = predictions / TEACHER_TOKENIZERS / "en-wordpiece"
    teacher = load_tokenizer("again", TeacherConfig(model=str(source), languages=["en"]))
    earlier = read_vocabulary(str(predictions / VOCABULARY_FILE))
    assert sorted(teacher.tokens) == np.flatnonzero(earlier.teacher_ids["en-wordpiece"] >= 0).tolist()
    vocabulary = merge([teacher])
    remapped = remap_tokenizer(teacher.hf, vocabulary.to_merged("again"))
    for line in world.sentences("en", 20):
        ids = teacher.hf(line)["input_ids"]
        assert remapped(line)["input_ids"] == vocabulary.to_merged("again")[ids].tolist()
