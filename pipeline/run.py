"""The whole of stage one: check everything, run the missing shards, commit the manifest."""

import sys
from functools import lru_cache

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.commit import collect_manifest, write_tokenizers
from pipeline.config import PipelineConfig
from pipeline.merge import merge
from pipeline.plan import plan_shards, plan_text
from pipeline.prediction import Predictor
from pipeline.progress import shard_progress
from pipeline.provenance import claim_output, describe_run
from pipeline.shards import Shard, process_shard
from pipeline.teachers import TeacherTokenizer, load_model, load_tokenizer
from schemas.manifest import Manifest, write_manifest
from schemas.storage import exists, join
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary, write_vocabulary


def run_pipeline(config: PipelineConfig, beam_arguments: list[str]) -> Manifest:
    """Runs stage one to the end, doing only what is missing.

    Raises:
      UserError: bad input, found before any shard is processed, or the output folder
        holds another run.
    """
    text = plan_text(config)
    tokenizers = {name: load_tokenizer(name, teacher) for name, teacher in config.teachers.items()}
    vocabulary = merge(list(tokenizers.values()), config.identity)
    run = describe_run(config, tokenizers, vocabulary, text)
    claim_output(config.output, run)

    shards = plan_shards(config, text)
    missing = [shard for shard in shards if not exists(join(config.output, shard.path))]
    if len(missing) < len(shards):
        print(f"{len(shards) - len(missing)} of {len(shards)} shards are already there", file=sys.stderr)
    if missing:
        write_vocabulary(join(config.output, VOCABULARY_FILE), vocabulary)
        with shard_progress(config.output, missing):
            process(missing, config, run.fingerprint, beam_arguments)

    manifest = collect_manifest(config, run, shards)
    write_tokenizers(config, tokenizers, vocabulary, shards)
    write_manifest(config.output, manifest)
    return manifest


def process(shards: list[Shard], config: PipelineConfig, run: str, beam_arguments: list[str]) -> None:
    """The Beam pipeline: small descriptions go in, each shard's file is written inside."""
    with beam.Pipeline(options=PipelineOptions(beam_arguments)) as pipeline:
        (
            pipeline
            | "Describe shards" >> beam.Create(shards)
            | "Spread over workers" >> beam.Reshuffle()
            | "Predict and write" >> beam.ParDo(PredictShard(config, run))
        )


class PredictShard(beam.DoFn):
    """Runs one shard. The teacher and the vocabulary are loaded once a process."""

    def __init__(self, config: PipelineConfig, run: str):
        self._config = config
        self._run = run

    def process(self, shard: Shard):
        """Writes the shard's files; emits nothing."""
        tokenizer, predictor = _teacher(self._config.model_dump_json(), shard.teacher, self._run)
        vocabulary = _vocabulary(self._config.output, self._run)
        to_merged = vocabulary.to_merged(shard.teacher)
        process_shard(shard, self._config, self._run, tokenizer, predictor, to_merged, vocabulary.sha256)


# One teacher in memory at a time in each process. Keyed by text, since every bundle
# brings its own copy of the configuration, and by run, since files can change.
@lru_cache(maxsize=1)
def _teacher(config_json: str, name: str, run: str) -> tuple[TeacherTokenizer, Predictor | None]:
    config = PipelineConfig.model_validate_json(config_json)
    teacher = config.teachers[name]
    tokenizer = load_tokenizer(name, teacher)
    if not config.top_k:
        return tokenizer, None
    return tokenizer, Predictor(load_model(name, teacher), tokenizer, teacher, config.top_k)


@lru_cache(maxsize=1)
def _vocabulary(output: str, run: str) -> Vocabulary:
    return read_vocabulary(join(output, VOCABULARY_FILE))
