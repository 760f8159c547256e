"""Words of samples: counting on workers gives the same as counting here, one language and teacher after the other."""

import pickle
from dataclasses import replace

import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.config import PipelineConfig
from pipeline.engine.tasks import in_threads
from pipeline.engine.workers import _on_workers
from pipeline.job import words as words_module
from pipeline.job.words import sample_words
from pipeline.student_tokenizers.word_counts import WORDS_SCHEMA, count_words, in_merged_ids, read_words
from pipeline.teachers.tokenizer import load_tokenizer
from pipeline.text.sampling import sample_records
from pipeline.text.survey import find_text
from schemas.errors import UserError
from schemas.vocabulary import VOCABULARY_FILE, read_vocabulary

SIZE = 2**13


@pytest.fixture
def config(pipeline_settings, tmp_path) -> PipelineConfig:
    """English has three teachers, Russian two."""
    settings = pipeline_settings(tmp_path / "p")
    for name, languages in (("ru-unigram", ["ru", "en"]), ("hi-bpe", ["ru", "hi", "en"])):
        settings["teachers"][name]["languages"] = languages
    return PipelineConfig.model_validate(settings)


def sampled(config: PipelineConfig, run_tasks, tokenizers=None) -> list:
    tokenizers = tokenizers or {name: load_tokenizer(name, teacher) for name, teacher in config.teachers.items()}
    return list(sample_words(config, tokenizers, find_text(config), SIZE, run_tasks))


def elsewhere(tasks):
    """Passes tasks as to another process."""
    sent = [pickle.dumps(task) for task in tasks]
    assert max(map(len, sent)) < 5000
    return in_threads([pickle.loads(task) for task in sent])


def test_they_are_those_of_each_language_and_teacher(config, monkeypatch):
    read = []

    def sample(corpus, *arguments):
        read.append(corpus)
        return sample_records(corpus, *arguments)

    monkeypatch.setattr(words_module, "sample_records", sample)
    actual = sampled(config, in_threads)
    pairs = [(name, language) for name, teacher in config.teachers.items() for language in teacher.languages]
    assert [(one.teacher, one.language) for one in actual] == pairs and len(read) == 3
    corpora = find_text(config)
    for one in actual:
        records = sample_records(corpora[one.language], SIZE, config.max_record_bytes).records
        tokenizer = load_tokenizer(one.teacher, config.teachers[one.teacher])
        lines = [record.text for record in records]
        assert one.words.equals(count_words(one.language, tokenizer, lines)) and one.lines == lines


def test_other_processes_count_the_same(config):
    assert sampled(config, elsewhere) == sampled(config, in_threads)


@pytest.mark.heavy
def test_the_workers_of_a_runner_count_the_same(config, tmp_path):
    def on_workers(tasks):
        return _on_workers(tasks, PipelineOptions([]), str(tmp_path / "out"))

    assert sampled(config, on_workers) == sampled(config, in_threads)


def test_another_tokenizer_on_a_worker_is_refused(config):
    def changed(tasks):
        return elsewhere([replace(task, fingerprints=dict.fromkeys(task.fingerprints, "0")) for task in tasks])

    with pytest.raises(
        UserError, match="teacher 'en-wordpiece': its tokenizer on a worker differs from the one where the run began"
    ):
        sampled(config, changed)


def test_a_run_has_them_with_merged_ids(predictions, pipeline_settings):
    config = PipelineConfig.model_validate(pipeline_settings(predictions))
    vocabulary = read_vocabulary(str(predictions / VOCABULARY_FILE))
    counted = []
    for name, teacher in config.teachers.items():
        (language,) = teacher.languages
        corpus = find_text(config)[language]
        lines = [record.text for record in sample_records(corpus, 2**22, config.max_record_bytes).records]
        words = count_words(language, load_tokenizer(name, teacher), lines)
        counted.append(in_merged_ids(words, vocabulary.to_merged(name)))
    kept = read_words(str(predictions / "_words.parquet"), len(vocabulary))
    assert kept.equals(pa.concat_tables(counted)) and kept.schema.equals(WORDS_SCHEMA)
