"""The whole of stage one: check everything, run the missing shards, commit the manifest."""

import re
import sys
import threading
from functools import lru_cache

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.commit import collect_manifest
from pipeline.config import PipelineConfig
from pipeline.deploy import deploy_tokenizers, deployed_tokenizers
from pipeline.merge import merge
from pipeline.plan import plan_shards, plan_text
from pipeline.prediction import Predictor
from pipeline.progress import shard_progress
from pipeline.provenance import Run, claim_output, describe_run
from pipeline.remap_tokenizer import remap_tokenizer
from pipeline.shards import Shard, process_shard
from pipeline.teacher_model import load_model, teacher_fingerprint
from pipeline.teacher_tokenizer import TeacherTokenizer, load_tokenizer
from pipeline.words import WORDS_FILE, count_words, read_words, sample_text, without
from schemas.errors import UserError
from schemas.manifest import MANIFEST_FILE, Manifest, open_predictions, write_manifest
from schemas.storage import join, list_files
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary, write_vocabulary

_ONE_SHARD = threading.Lock()
_WORKERS_ERROR = re.compile(r"UserError: (.+?)(?: \[while running .*|\n|$)")


def run_pipeline(config: PipelineConfig, beam_arguments: list[str]) -> Manifest:
    """Runs stage one to the end, doing only what is missing.

    Raises:
      UserError: bad input, found before any shard is processed, or the output folder
        holds another run.
    """
    text = plan_text(config)
    tokenizers = {name: load_tokenizer(name, teacher) for name, teacher in config.teachers.items()}
    base = _base(config) if config.extends else None
    vocabulary = merge(list(tokenizers.values()), config.identity, base)
    run = describe_run(config, tokenizers, vocabulary, text)
    claim_output(config.output, run)

    shards = plan_shards(config, text)
    present = list_files(config.output)
    missing = [shard for shard in shards if shard.path not in present]
    if len(missing) < len(shards):
        print(f"{len(shards) - len(missing)} of {len(shards)} shards are already there", file=sys.stderr)
    is_finished = MANIFEST_FILE in present and not missing
    write_vocabulary(join(config.output, VOCABULARY_FILE), vocabulary)
    if missing:
        with shard_progress(config.output, missing):
            process(missing, config, run, beam_arguments)

    manifest = collect_manifest(config, run, shards)
    if not is_finished:
        _deploy(config, tokenizers, vocabulary, base, shards)
        write_manifest(config.output, manifest)
    return manifest


def _base(config: PipelineConfig) -> Vocabulary:
    """The vocabulary of the folder that this run extends."""
    earlier = open_predictions(config.extends)
    (manifest,) = earlier.manifests
    if manifest.identity != config.identity:
        raise UserError(f"identity is {config.identity!r}, but {config.extends} was made with {manifest.identity!r}")
    return earlier.vocabulary


def _deploy(
    config: PipelineConfig,
    tokenizers: dict[str, TeacherTokenizer],
    vocabulary: Vocabulary,
    base: Vocabulary | None,
    shards: list[Shard],
) -> None:
    """Writes the tokenizers, also those of the folder that this run extends (whose vocabulary is `base`)."""
    remapped = {
        name: remap_tokenizer(tokenizer.hf, vocabulary.to_merged(name)) for name, tokenizer in tokenizers.items()
    }
    groups: dict[tuple[str, str], list[Shard]] = {}
    for shard in shards:
        groups.setdefault((shard.language, shard.teacher), []).append(shard)
    words = [
        count_words(language, tokenizers[teacher], sample_text(group), vocabulary.to_merged(teacher))
        for (language, teacher), group in groups.items()
    ]
    if base:
        remapped = deployed_tokenizers(config.extends, base) | remapped
        earlier = read_words(join(config.extends, WORDS_FILE))
        words.insert(0, without(earlier, groups.keys()))
    deploy_tokenizers(config.output, remapped, vocabulary, pa.concat_tables(words))


def process(shards: list[Shard], config: PipelineConfig, run: Run, beam_arguments: list[str]) -> None:
    """The Beam pipeline: small descriptions go in, each shard's file is written inside."""
    try:
        with beam.Pipeline(options=PipelineOptions(beam_arguments)) as pipeline:
            (
                pipeline
                | "Describe shards" >> beam.Create(shards)
                | "Spread over workers" >> beam.Reshuffle()
                | "Predict and write" >> beam.ParDo(PredictShard(config, run))
            )
    except (UserError, RuntimeError) as error:
        # Beam adds its own words to a worker's error, and other processes' errors come as text.
        if message := _WORKERS_ERROR.search(f"{type(error).__name__}: {error}"):
            raise UserError(message[1]) from None
        raise


class PredictShard(beam.DoFn):
    """Runs one shard. The teacher and the vocabulary are loaded once a process."""

    def __init__(self, config: PipelineConfig, run: Run):
        self._config = config
        self._run = run.fingerprint
        self._teachers = {name: teacher.fingerprint for name, teacher in run.teachers.items()}

    def process(self, shard: Shard):
        """Writes the shard's files; emits nothing."""
        # One shard at a time in a process: its threads share the one teacher in memory.
        with _ONE_SHARD:
            tokenizer, predictor = _teacher(
                self._config.model_dump_json(), shard.teacher, self._teachers[shard.teacher], self._run
            )
            vocabulary = _vocabulary(self._config.output, self._run)
            to_merged = vocabulary.to_merged(shard.teacher)
            process_shard(shard, self._config, self._run, tokenizer, predictor, to_merged, vocabulary.sha256)


# One teacher in memory at a time in each process. Keyed by text, since every bundle
# brings its own copy of the configuration, and by run, since files can change.
@lru_cache(maxsize=1)
def _teacher(config_json: str, name: str, fingerprint: str, run: str) -> tuple[TeacherTokenizer, Predictor | None]:
    config = PipelineConfig.model_validate_json(config_json)
    teacher = config.teachers[name]
    tokenizer = load_tokenizer(name, teacher)
    model = load_model(name, teacher) if config.top_k else None
    found = teacher_fingerprint(tokenizer, model)
    if found != fingerprint:
        raise UserError(
            f"teacher {name!r} ({teacher.model}) is {found[:12]} here, but was {fingerprint[:12]} when the run began; "
            "pin `revision` to a commit"
        )
    return tokenizer, Predictor(model, tokenizer, teacher, config.top_k) if model else None


@lru_cache(maxsize=1)
def _vocabulary(output: str, run: str) -> Vocabulary:
    return read_vocabulary(join(output, VOCABULARY_FILE))
