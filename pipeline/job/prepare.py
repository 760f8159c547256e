"""Before the work starts: finds, makes and tries everything that bad input can make fail."""

from dataclasses import dataclass

import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from pipeline.config import PipelineConfig
from pipeline.engine.tasks import RunTasks, in_threads
from pipeline.job.dry_run import check_sample
from pipeline.job.fingerprint import check_devices, describe_run, try_models
from pipeline.job.plan import Plan, divide_text
from pipeline.job.words import sample_words
from pipeline.student_tokenizers.remap import check_remapped, remap_tokenizer
from pipeline.student_tokenizers.store import StudentTokenizers, make_tokenizers, read_tokenizers
from pipeline.student_tokenizers.word_counts import (
    WORDS_FILE,
    in_merged_ids,
    read_words,
    without,
)
from pipeline.teachers.exact_tokenizer import tokenizer_faults
from pipeline.teachers.mixture import check_mixture
from pipeline.teachers.tokenizer import TeacherTokenizer, load_tokenizer
from pipeline.text.corpus import Corpus
from pipeline.text.survey import look_at_text, survey_text
from pipeline.text.units import TeacherText
from pipeline.vocabulary.merge import merge
from schemas.errors import UserError
from schemas.predictions import Predictions, open_predictions
from schemas.storage import join
from schemas.vocabulary import Vocabulary


@dataclass(frozen=True)
class Prepared(Plan):
    """A checked plan that may start.

    Attributes:
      made: the student's tokenizers; None if they are not to be made in this call.
    """

    tokenizers: dict[str, TeacherTokenizer]
    vocabulary: Vocabulary
    made: StudentTokenizers | None


def prepare(
    config: PipelineConfig,
    listed: dict[str, Corpus],
    sample_bytes: int | None = None,
    run_tasks: RunTasks = in_threads,
    known: Plan | None = None,
    fits: bool = True,
    predicts_here: bool = False,
) -> Prepared:
    """Makes and tries every tokenizer, then loads and tries every teacher's model, then surveys the text.

    Args:
      listed: all text (`find_text`).
      sample_bytes: bytes of text of each language that the tokenizers are tried on and fitted to; None to
        neither try nor make them.
      run_tasks: runs the tasks that read the samples, and the files that must be read in full.
      known: the same run as checked by an earlier call; neither its text nor its teachers' models are checked again.
      fits: whether to fit the default tokenizer, which may take minutes.
      predicts_here: whether this process will predict, so that it must have the teachers' devices.

    Raises:
      UserError: any bad input.
    """
    check_devices(config, predicts_here)
    tokenizers = {name: load_tokenizer(name, teacher) for name, teacher in config.teachers.items()}
    for name, tokenizer in tokenizers.items():
        check_mixture(tokenizer, config.teachers[name])
    extended = _open_extended(config)
    vocabulary = merge(list(tokenizers.values()), config.token_identity, extended.vocabulary if extended else None)
    texts = divide_text(config, listed)
    if not known:
        look_at_text(listed)
        for text in texts:
            check_sample(text, tokenizers[text.teacher])
    # Checks that take seconds come before the models, which take minutes to load, and those before all of the text.
    made = None
    if sample_bytes:
        remapped, words = _try_tokenizers(config, tokenizers, vocabulary, listed, sample_bytes, run_tasks)
        made = _make_tokenizers(remapped, words, extended, vocabulary, texts) if fits else None
    if known:
        fingerprints, corpora = (
            {name: teacher.fingerprint for name, teacher in known.run.teachers.items()},
            known.corpora,
        )
    else:
        fingerprints = {
            name: try_models(name, config, tokenizer, predicts_here) for name, tokenizer in tokenizers.items()
        }
        corpora = survey_text(config, listed, run_tasks)
    run = describe_run(config, tokenizers, vocabulary, corpora, fingerprints)
    return Prepared(run, corpora, divide_text(config, corpora), tokenizers, vocabulary, made)


def _open_extended(config: PipelineConfig) -> Predictions | None:
    """Opens the folder that this run extends, if any."""
    if not config.extends:
        return None
    extended = open_predictions(config.extends)
    (manifest,) = extended.manifests
    if manifest.token_identity != config.token_identity:
        raise UserError(
            f"token_identity is {config.token_identity!r}, but {config.extends} was made with {manifest.token_identity!r}; "
            "set it to that"
        )
    return extended


def _try_tokenizers(
    config: PipelineConfig,
    tokenizers: dict[str, TeacherTokenizer],
    vocabulary: Vocabulary,
    corpora: dict[str, Corpus],
    sample_bytes: int,
    run_tasks: RunTasks,
) -> tuple[dict[str, PreTrainedTokenizerFast], list[pa.Table]]:
    """Returns the teachers' tokenizers with merged ids, tried on a sample of each language, and each sample's words."""
    remapped, words = {}, []
    for name, tokenizer in tokenizers.items():
        with tokenizer_faults(f"teacher {name!r}: its tokenizer cannot be converted to merged ids"):
            remapped[name] = remap_tokenizer(tokenizer.hf, vocabulary.to_merged(name), vocabulary.id_of("pad"))
    for language, name, of_sample, lines in sample_words(config, tokenizers, corpora, sample_bytes, run_tasks):
        to_merged = vocabulary.to_merged(name)
        with tokenizer_faults(f"teacher {name!r}: its tokenizer fails on a sample of text.{language}"):
            check_remapped(f"teacher {name!r}: text.{language}", tokenizers[name].hf, remapped[name], to_merged, lines)
        words.append(in_merged_ids(of_sample, to_merged))
    return remapped, words


def _make_tokenizers(
    remapped: dict[str, PreTrainedTokenizerFast],
    words: list[pa.Table],
    extended: Predictions | None,
    vocabulary: Vocabulary,
    texts: list[TeacherText],
) -> StudentTokenizers:
    """Makes all tokenizers, fitted to the words, including those of the folder that this run extends."""
    if extended:
        remapped = read_tokenizers(extended.newest, extended.vocabulary) | remapped
        earlier = read_words(join(extended.newest, WORDS_FILE), len(extended.vocabulary))
        words = [without(earlier, {(text.language, text.teacher) for text in texts}), *words]
    return make_tokenizers(remapped, vocabulary, pa.concat_tables(words))
