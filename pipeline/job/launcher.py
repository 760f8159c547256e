"""The whole of stage one: check everything, do the missing units of work, commit the manifest."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby

from apache_beam.options.pipeline_options import PipelineOptions
from fsspec.implementations.local import LocalFileSystem

from pipeline.config import PipelineConfig
from pipeline.engine.options import beam_options, is_dataflow, threads_a_process, writes_template
from pipeline.engine.tasks import in_threads
from pipeline.engine.workers import task_runner
from pipeline.job.beam_job import process
from pipeline.job.dry_run import Estimate, estimate
from pipeline.job.failures import settle
from pipeline.job.finalize import list_output, make_manifest, read_finished, remove_unfinished
from pipeline.job.fingerprint import check_output, claim_output
from pipeline.job.prepare import Prepared, prepare
from pipeline.job.progress import run_progress
from pipeline.job.worker import UNITS_AT_A_TIME, PredictUnits, make_worker
from pipeline.student_tokenizers.store import write_tokenizers
from pipeline.student_tokenizers.word_counts import SAMPLE_BYTES
from pipeline.teachers.loading import load_teacher
from pipeline.text.listing import write_corpus
from pipeline.text.units import TeacherText, Unit
from schemas.errors import UserError
from schemas.lock import owning, sharing
from schemas.manifest import DEFAULT_TOKENIZER, MANIFEST_FILE, Manifest, write_manifest
from schemas.paths import check_output_folder
from schemas.storage import filesystem, join
from schemas.vocabulary import VOCABULARY_FILE, write_vocabulary

_log = logging.getLogger(__name__)

# The file of the tokenizers that is written last.
_LAST_TOKENIZER_FILE = f"{DEFAULT_TOKENIZER}/tokenizer_config.json"
# Text of each language, when tokenizers are only tried.
_DRY_SAMPLE_BYTES = 2**18


def run_pipeline(config: PipelineConfig, beam_arguments: list[str]) -> Manifest | None:
    """Runs stage one to the end, doing only what is missing.

    Returns:
      the manifest, or None where Beam was asked for a template of the job only.

    Raises:
      UserError: bad input, found before any unit is worked on, or parts of the text failed, or the output folder
        holds another run, or is being written by another process.
    """
    with owning(config.output):
        return _run_owned(config, beam_arguments)


def _run_owned(config: PipelineConfig, beam_arguments: list[str]) -> Manifest | None:
    present = list_output(config.output)
    options, prepared = _check(config, beam_arguments, None if _LAST_TOKENIZER_FILE in present else SAMPLE_BYTES)
    begin(config, prepared)
    units = prepared.units
    finished = read_finished(config.output, units, present)
    missing = remove_unfinished(config.output, units, finished, present)
    if finished.tables:
        _log.info("%d of %d units of work are already done", len(finished.tables), len(units))
    if not missing and MANIFEST_FILE in present:
        return make_manifest(config, prepared.run, finished)
    step = PredictUnits(config, prepared.run, threads_a_process(options))
    if missing and writes_template(options):
        process(missing, config, step, options)
        return None
    if missing:
        with run_progress(config.output, _sizes(prepared, missing), step.worker().progress):
            process(missing, config, step, options)
    return finish(config, prepared)


def run_part(config: PipelineConfig, number: int, count: int) -> int:
    """Works on the units of one part of a run, in this process alone: every `count`-th of them, from `number` (1 to count) on.

    The other parts are other calls, here or on other machines. `finish_run` makes the manifest.

    Returns:
      how many units the part has.

    Raises:
      UserError: as in `run_pipeline`.
    """
    with sharing(config.output):
        _, prepared = _check(config, [], _DRY_SAMPLE_BYTES)
        begin(config, replace(prepared, made=None))
        units = prepared.units[number - 1 :: count]
        present = list_output(config.output)
        finished = read_finished(config.output, units, present)
        missing = remove_unfinished(config.output, units, finished, present)
        worker = make_worker(config, prepared.run, None)
        # Not from the listing that was written, because another part's machine may see the text at another path.
        worker.texts = {(text.language, text.teacher): text for text in prepared.texts}
        with (
            run_progress(config.output, _sizes(prepared, missing), worker.progress),
            ThreadPoolExecutor(UNITS_AT_A_TIME) as pool,
        ):
            for _ in pool.map(lambda unit: sum(1 for _ in worker.process(unit)), missing):
                pass
        present = list_output(config.output)
        finished = read_finished(config.output, units, present)
        settle(config.output, units, finished, present, config.max_failed, "call this part again")
    return len(units)


def finish_run(config: PipelineConfig) -> Manifest:
    """Makes the tokenizers and the manifest after all parts of a run. UserError where units are missing."""
    with owning(config.output):
        _, prepared = _check(config, [], SAMPLE_BYTES)
        check_output(config.output, prepared.run)
        units, present = prepared.units, list_output(config.output)
        finished = read_finished(config.output, units, present)
        settle(config.output, units, finished, present, config.max_failed, "call all parts, and then --finish")
        begin(config, prepared)
        return finish(config, prepared)


def begin(config: PipelineConfig, prepared: Prepared) -> None:
    """Marks the output as this run's, and writes what its workers need."""
    claim_output(config.output, prepared.run)
    for language, corpus in prepared.corpora.items():
        write_corpus(config, language, corpus)
    write_vocabulary(join(config.output, VOCABULARY_FILE), prepared.vocabulary)
    if prepared.made:
        write_tokenizers(config.output, prepared.made)


def finish(config: PipelineConfig, prepared: Prepared) -> Manifest:
    """Writes the manifest. UserError where units are missing, or too many records were rejected."""
    present = list_output(config.output)
    finished = read_finished(config.output, prepared.units, present)
    mend = "run the same command again to go on"
    complete = settle(config.output, prepared.units, finished, present, config.max_failed, mend)
    manifest = make_manifest(config, prepared.run, complete)
    write_manifest(config.output, manifest)
    return manifest


def _sizes(prepared: Prepared, units: list[Unit]) -> dict[Unit, int]:
    """Bytes of text of each unit."""
    corpora = {(text.language, text.teacher): text.corpus for text in prepared.texts}
    sizes = {}
    for unit in units:
        corpus = corpora[unit.language, unit.teacher]
        sizes[unit] = min(corpus.unit_bytes, corpus.size - unit.number * corpus.unit_bytes)
    return sizes


def dry_run(config: PipelineConfig, beam_arguments: list[str]) -> list[Estimate]:
    """Checks everything that `run_pipeline` would, writes nothing, and estimates what each language would take."""
    _, prepared = _check(config, beam_arguments, _DRY_SAMPLE_BYTES, is_dry=True)
    check_output(config.output, prepared.run)

    def with_teacher(name: str, texts: Iterable[TeacherText]) -> list[Estimate]:
        # A function, so that its local teacher is gone before the next one is loaded.
        fingerprint = prepared.run.teachers[name].fingerprint
        teacher = load_teacher(name, config, prepared.vocabulary, None, fingerprint)
        return [estimate(text, teacher) for text in texts]

    by_teacher = groupby(prepared.texts, key=lambda text: text.teacher)
    return [language_estimate for name, texts in by_teacher for language_estimate in with_teacher(name, texts)]


def _check(
    config: PipelineConfig, beam_arguments: list[str], sample_bytes: int | None, is_dry: bool = False
) -> tuple[PipelineOptions, Prepared]:
    """Everything that can be known before a teacher runs. UserError."""
    options = beam_options(beam_arguments)
    check_output_folder(config.output)
    if is_dataflow(options) and isinstance(filesystem(config.output)[0], LocalFileSystem):
        raise UserError(
            f"output: {config.output} is on this machine, where Dataflow's workers cannot write; give a URL"
        )
    run_tasks = in_threads if is_dry else task_runner(options, config.output)
    return options, prepare(config, sample_bytes, run_tasks)
