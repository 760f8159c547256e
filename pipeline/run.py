"""The whole of stage one: check everything, run the missing shards, commit the manifest."""

import os
import re
import sys

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import DebugOptions, DirectOptions, PipelineOptions, StandardOptions

from pipeline.commit import collect_manifest
from pipeline.config import PipelineConfig
from pipeline.deploy import deploy_tokenizers, deployed_tokenizers
from pipeline.merge import merge
from pipeline.plan import deal, plan_shards, plan_text
from pipeline.progress import run_progress
from pipeline.provenance import Run, claim_output, describe_run
from pipeline.remap_tokenizer import remap_tokenizer
from pipeline.shards import Shard
from pipeline.teacher_tokenizer import TeacherTokenizer, load_tokenizer
from pipeline.words import WORDS_FILE, count_words, read_words, sample_text, without
from pipeline.worker import PredictShards
from schemas.errors import UserError
from schemas.manifest import MANIFEST_FILE, Manifest, open_predictions, write_manifest
from schemas.storage import join, list_files
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, write_vocabulary

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
        with run_progress(config.output, missing):
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
    options = PipelineOptions(beam_arguments)
    try:
        with beam.Pipeline(options=options) as pipeline:
            (
                pipeline
                | "Describe shards" >> beam.Create(deal(shards))
                | "Spread over workers" >> beam.Reshuffle()
                | "Predict and write" >> beam.ParDo(PredictShards(config, run, threads_a_process(options)))
            )
    except (UserError, RuntimeError) as error:
        # Beam adds its own words to a worker's error, and other processes' errors come as text.
        if message := _WORKERS_ERROR.search(f"{type(error).__name__}: {error}"):
            raise UserError(message[1]) from None
        raise


def threads_a_process(options: PipelineOptions) -> int | None:
    """CPU threads for each worker process, where the runner starts one a core or several here; None for all cores."""
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode == "multi_processing":
        cores = os.cpu_count() or 1
        return max(1, cores // (direct.direct_num_workers or cores))
    is_dataflow = "dataflow" in (options.view_as(StandardOptions).runner or "").lower()
    experiments = options.view_as(DebugOptions).experiments or []
    return 1 if is_dataflow and "no_use_multiple_sdk_containers" not in experiments else None
