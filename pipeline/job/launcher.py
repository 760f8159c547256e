"""The whole of stage one: check everything, run the missing shards, commit the manifest."""

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    _BeamArgumentParser,
)
from fsspec.implementations.local import LocalFileSystem

import pipeline.job.local_workers  # noqa: F401  (registers itself with Beam)
from pipeline.config import PipelineConfig
from pipeline.job.dry_run import Estimate, check_sample, estimate
from pipeline.job.finalize import collect_manifest
from pipeline.job.fingerprint import RunSpec, check_output, claim_output, describe_run
from pipeline.job.plan import deal, plan_shards, plan_text
from pipeline.job.progress import run_progress
from pipeline.job.sampling import sample_records
from pipeline.job.worker import PredictShards
from pipeline.shard.shard import Shard
from pipeline.student_tokenizers.remap import check_remapped, remap_tokenizer
from pipeline.student_tokenizers.store import StudentTokenizers, make_tokenizers, read_tokenizers, write_tokenizers
from pipeline.student_tokenizers.word_counts import SAMPLE_BYTES, WORDS_FILE, count_words, read_words, without
from pipeline.teachers.exact_tokenizer import tokenizer_faults
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.mixture import check_mixture
from pipeline.teachers.tokenizer import TeacherTokenizer, load_tokenizer
from pipeline.vocabulary.merge import merge
from schemas.errors import UserError
from schemas.lock import owning
from schemas.manifest import DEFAULT_TOKENIZER, MANIFEST_FILE, Manifest, write_manifest
from schemas.paths import check_output_folder
from schemas.predictions import Predictions, open_predictions
from schemas.storage import filesystem, join, list_files
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, write_vocabulary

_log = logging.getLogger(__name__)

# The file of the tokenizers that is written last.
_LAST_TOKENIZER_FILE = f"{DEFAULT_TOKENIZER}/tokenizer_config.json"
# A teacher's tokenizer with merged ids must give the same tokens for this many lines.
_COMPARED_LINES = 1000
# Text of each language, when tokenizers are only tried.
_DRY_SAMPLE_BYTES = 2**18
_WORKERS_ERROR = re.compile(r"UserError: (.+?)(?: \[while running .*|\n|$)")


@dataclass(frozen=True)
class Prepared:
    """A run that was checked and may start: its parts, and all of its shards."""

    tokenizers: dict[str, TeacherTokenizer]
    vocabulary: Vocabulary
    run: RunSpec
    shards: list[Shard]
    made: StudentTokenizers | None

    @property
    def groups(self) -> list[list[Shard]]:
        """The shards of each language and teacher."""
        return _groups(self.shards)


def _groups(shards: list[Shard]) -> list[list[Shard]]:
    return [list(group) for _, group in groupby(shards, key=lambda shard: (shard.teacher, shard.language))]


def prepare(config: PipelineConfig, sample_bytes: int | None = None) -> Prepared:
    """Reads all text once, then makes and tries every tokenizer, then loads and tries every teacher's model.

    Args:
      sample_bytes: text of each language that the tokenizers are fitted to and tried on; None where the
        output has the tokenizers already.

    Raises:
      UserError: any bad input.
    """
    text = plan_text(config)
    shards = plan_shards(config, text)
    tokenizers = {name: load_tokenizer(name, teacher) for name, teacher in config.teachers.items()}
    for name, tokenizer in tokenizers.items():
        check_mixture(tokenizer, config.teachers[name])
    extended = _open_extended(config)
    vocabulary = merge(list(tokenizers.values()), config.token_identity, extended.vocabulary if extended else None)
    groups = _groups(shards)
    for group in groups:
        check_sample(group, tokenizers[group[0].teacher], config)
    # What fails within seconds comes before the models, which take minutes to load.
    made = _make_tokenizers(tokenizers, extended, vocabulary, groups, sample_bytes) if sample_bytes else None
    run = describe_run(config, tokenizers, vocabulary, text)
    return Prepared(tokenizers, vocabulary, run, shards, made)


def run_pipeline(config: PipelineConfig, beam_arguments: list[str]) -> Manifest | None:
    """Runs stage one to the end, doing only what is missing.

    Returns:
      the manifest, or None where Beam was asked for a template of the job only.

    Raises:
      UserError: bad input, found before any shard is processed, or the output folder
        holds another run, or is being written by another process.
    """
    with owning(config.output):
        return _run_owned(config, beam_arguments)


def _run_owned(config: PipelineConfig, beam_arguments: list[str]) -> Manifest | None:
    has_tokenizers = _LAST_TOKENIZER_FILE in list_files(config.output)
    options, prepared = _check(config, beam_arguments, None if has_tokenizers else SAMPLE_BYTES)
    shards = prepared.shards
    claim_output(config.output, prepared.run)
    present = list_files(config.output)
    missing = [shard for shard in shards if shard.path not in present]
    if len(missing) < len(shards):
        _log.info("%d of %d shards are already there", len(shards) - len(missing), len(shards))
    write_vocabulary(join(config.output, VOCABULARY_FILE), prepared.vocabulary)
    if prepared.made:
        write_tokenizers(config.output, prepared.made)
    step = PredictShards(config, prepared.run, threads_a_process(options))
    if missing and _is_dataflow(options) and options.view_as(GoogleCloudOptions).template_location:
        process(missing, step, options)
        return None
    if missing:
        with run_progress(config.output, missing, step.worker().progress):
            process(missing, step, options)

    manifest = collect_manifest(config, prepared.run, shards)
    if missing or MANIFEST_FILE not in present:
        write_manifest(config.output, manifest)
    return manifest


def dry_run(config: PipelineConfig, beam_arguments: list[str]) -> list[Estimate]:
    """Checks everything that `run_pipeline` would, writes nothing, and estimates what each language would take."""
    _, prepared = _check(config, beam_arguments, _DRY_SAMPLE_BYTES)
    check_output(config.output, prepared.run)

    def with_teacher(name: str, groups: Iterable[list[Shard]]) -> list[Estimate]:
        # A function, so that its local teacher is gone before the next one is loaded.
        fingerprint = prepared.run.teachers[name].fingerprint
        teacher = load_teacher(name, config, prepared.vocabulary, None, fingerprint)
        return [estimate(group, teacher, config) for group in groups]

    by_teacher = groupby(prepared.groups, key=lambda group: group[0].teacher)
    return [language_estimate for name, groups in by_teacher for language_estimate in with_teacher(name, groups)]


def _check(
    config: PipelineConfig, beam_arguments: list[str], sample_bytes: int | None
) -> tuple[PipelineOptions, Prepared]:
    """Everything that can be known before a teacher runs. UserError."""
    options = beam_options(beam_arguments)
    check_output_folder(config.output)
    if _is_dataflow(options) and isinstance(filesystem(config.output)[0], LocalFileSystem):
        raise UserError(
            f"output: {config.output} is on this machine, where Dataflow's workers cannot write; give a URL"
        )
    return options, prepare(config, sample_bytes)


def _open_extended(config: PipelineConfig) -> Predictions | None:
    """The folder that this run extends, if any."""
    if not config.extends:
        return None
    extended = open_predictions(config.extends)
    (manifest,) = extended.manifests
    if manifest.token_identity != config.token_identity:
        raise UserError(
            f"token_identity is {config.token_identity!r}, but {config.extends} was made with {manifest.token_identity!r}"
        )
    return extended


def _make_tokenizers(
    tokenizers: dict[str, TeacherTokenizer],
    extended: Predictions | None,
    vocabulary: Vocabulary,
    groups: list[list[Shard]],
    sample_bytes: int,
) -> StudentTokenizers:
    """All tokenizers, fitted to a sample of each language; also those of the folder that this run extends."""
    remapped, words = {}, []
    for name, tokenizer in tokenizers.items():
        with tokenizer_faults(f"teacher {name!r}: its tokenizer cannot be made with merged ids"):
            remapped[name] = remap_tokenizer(tokenizer.hf, vocabulary.to_merged(name), vocabulary.id_of("pad"))
    for group in groups:
        language, name = group[0].language, group[0].teacher
        texts = [record.text for record in sample_records(group, sample_bytes).records if not record.fault]
        with tokenizer_faults(f"teacher {name!r}: its tokenizer fails on a sample of text.{language}"):
            words.append(count_words(language, tokenizers[name], texts, vocabulary.to_merged(name)))
            check_remapped(tokenizers[name].hf, remapped[name], vocabulary.to_merged(name), texts[:_COMPARED_LINES])
    if extended:
        remapped = read_tokenizers(extended.newest, extended.vocabulary) | remapped
        earlier = read_words(join(extended.newest, WORDS_FILE), len(extended.vocabulary))
        words.insert(0, without(earlier, {(group[0].language, group[0].teacher) for group in groups}))
    return make_tokenizers(remapped, vocabulary, pa.concat_tables(words))


def process(shards: list[Shard], step: PredictShards, options: PipelineOptions) -> None:
    """The Beam pipeline: small descriptions go in, and the file of each shard is written inside."""
    try:
        with beam.Pipeline(options=options) as job:
            (
                job
                | "Describe shards" >> beam.Create(deal(shards))
                | "Spread over workers" >> beam.Reshuffle()
                | "Predict and write" >> beam.ParDo(step)
            )
    except (UserError, RuntimeError, ValueError) as error:
        if "Pipeline has validations errors" in str(error):
            raise UserError(f"Beam: {' '.join(str(error).split())}") from None
        # Beam adds words to the error of a worker, and the errors of other processes come as text.
        if message := _WORKERS_ERROR.search(f"{type(error).__name__}: {error}"):
            raise UserError(message[1]) from None
        raise


def beam_options(arguments: list[str]) -> PipelineOptions:
    """Beam's options. UserError for an option that Beam does not know, which it would only warn about."""
    parser = _BeamArgumentParser(allow_abbrev=False)
    for part in PipelineOptions.__subclasses__():
        part._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UserError(f"{unknown[0]}: no option of this command (see --help), nor of Beam")
    return PipelineOptions(arguments)


def threads_a_process(options: PipelineOptions) -> int | None:
    """CPU threads of a worker process, where the runner starts several on one machine; None for all cores."""
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode == "multi_processing":
        cores = os.cpu_count() or 1
        return max(1, cores // (direct.direct_num_workers or cores))
    experiments = options.view_as(DebugOptions).experiments or []
    return 1 if _is_dataflow(options) and "no_use_multiple_sdk_containers" not in experiments else None


def _is_dataflow(options: PipelineOptions) -> bool:
    return "dataflow" in (options.view_as(StandardOptions).runner or "").lower()
