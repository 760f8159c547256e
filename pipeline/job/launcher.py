"""Stage one as a whole: check everything, do the missing units of work, commit the manifest."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.config import PipelineConfig
from pipeline.engine.options import beam_options, is_dataflow, threads_a_process, works_here, writes_template
from pipeline.engine.tasks import RunTasks, in_threads
from pipeline.engine.workers import task_runner
from pipeline.job.beam_job import process
from pipeline.job.dry_run import Estimate, estimate
from pipeline.job.failures import settle
from pipeline.job.finalize import Finished, list_output, make_manifest, read_finished, remove_unfinished
from pipeline.job.fingerprint import check_devices, check_output, claim_output
from pipeline.job.plan import Plan, inputs_sha256, recall, remember
from pipeline.job.prepare import Prepared, prepare
from pipeline.job.progress import run_progress
from pipeline.job.turns import taking_turns
from pipeline.job.worker import UNITS_AT_A_TIME, PredictUnits, make_worker
from pipeline.student_tokenizers.store import write_tokenizers
from pipeline.student_tokenizers.word_counts import SAMPLE_BYTES
from pipeline.teachers.loading import load_teacher
from pipeline.text.listing import write_corpus
from pipeline.text.survey import find_text
from pipeline.text.units import TeacherText, Unit
from schemas.errors import UserError
from schemas.lock import owning, sharing
from schemas.manifest import DEFAULT_TOKENIZER, MANIFEST_FILE, RUN_FILE, Manifest, write_manifest
from schemas.paths import check_output_folder, local_path
from schemas.storage import check_writable, exists, join
from schemas.vocabulary import VOCABULARY_FILE, write_vocabulary

_log = logging.getLogger(__name__)

# The tokenizer file that is written last.
_LAST_TOKENIZER_FILE = f"{DEFAULT_TOKENIZER}/tokenizer_config.json"
# Text of each language when tokenizers are only tried, not fitted.
_DRY_SAMPLE_BYTES = 2**18


def run_pipeline(config: PipelineConfig, beam_arguments: list[str]) -> Manifest | None:
    """Runs stage one to the end, doing only what is missing.

    Returns:
      the manifest, or None if Beam was asked only for a template of the job.

    Raises:
      UserError: bad input (found before work on any unit starts, except for devices and precisions of other processes),
        parts of the text failed, the output folder holds another run, or another process is writing to it.
    """
    with owning(config.output):
        return _run_owned(config, beam_arguments)


def _run_owned(config: PipelineConfig, beam_arguments: list[str]) -> Manifest | None:
    options = _options(config, beam_arguments)
    present = list_output(config.output)
    predicts_here = works_here(options)
    run_tasks = task_runner(options, config.output)
    plan = _start(config, run_tasks, _LAST_TOKENIZER_FILE not in present, predicts_here)
    units = plan.units
    finished = read_finished(config.output, units, present)
    missing = remove_unfinished(config.output, units, finished, present)
    if finished.tables:
        _log.info("%d of %d units of work are already done", len(finished.tables), len(units))
    if not missing and MANIFEST_FILE in present:
        return make_manifest(config, plan.run, finished)
    step = PredictUnits(config, plan.run, threads_a_process(options))
    if missing and writes_template(options):
        process(missing, config, step, options)
        return None
    if missing:
        check_devices(config, predicts_here)
        with run_progress(config.output, _sizes(plan, missing), step.worker().progress):
            process(missing, config, step, options)
        present = list_output(config.output)
        finished = read_finished(config.output, units, present)
    mend = "run the same command again to go on"
    return _finish(config, plan, settle(config.output, units, finished, present, config.max_failed, mend))


def run_part(config: PipelineConfig, number: int, count: int) -> int:
    """Does the units of one part of a run, in this process only: every `count`-th unit, from `number` (1 to count) on.

    Other calls do the other parts, here or on other machines. `finish_run` makes the manifest.

    Returns:
      the number of units in the part.

    Raises:
      UserError: like `run_pipeline`.
    """
    _options(config, [])
    with sharing(config.output):
        plan = _start_part(config)
        units = plan.units[number - 1 :: count]
        present = list_output(config.output)
        finished = read_finished(config.output, units, present)
        missing = remove_unfinished(config.output, units, finished, present)
        if missing:
            check_devices(config, predicts_here=True)
        worker = make_worker(config, plan.run, None)
        # Does not use the written listing, because the machine that wrote it may see the text at another path.
        worker.texts = {(text.language, text.teacher): text for text in plan.texts}
        with (
            run_progress(config.output, _sizes(plan, missing), worker.progress),
            ThreadPoolExecutor(UNITS_AT_A_TIME) as pool,
        ):
            for _ in pool.map(lambda unit: sum(1 for _ in worker.process(unit)), missing):
                pass
        present = list_output(config.output)
        finished = read_finished(config.output, units, present)
        settle(config.output, units, finished, present, config.max_failed, "run this part again")
    return len(units)


def finish_run(config: PipelineConfig) -> Manifest:
    """Makes the tokenizers and the manifest after all parts of a run. Raises UserError if units are missing."""
    _options(config, [])
    with owning(config.output):
        present = list_output(config.output)
        if RUN_FILE not in present:
            raise UserError(f"{config.output}: no part of this run has begun; run all parts with --part, then --finish")
        plan = _start(config, in_threads, fits=False)
        finished = read_finished(config.output, plan.units, present)
        complete = settle(
            config.output, plan.units, finished, present, config.max_failed, "run all parts with --part, then --finish"
        )
        if _LAST_TOKENIZER_FILE not in present:
            _start(config, in_threads, fits=True)
        return _finish(config, plan, complete)


def _start(config: PipelineConfig, run_tasks: RunTasks, fits: bool, predicts_here: bool = False) -> Plan:
    """Checks and begins a run. It does not repeat checks that an earlier call of the same run has passed.

    Args:
      fits: whether to make the tokenizers too.
      predicts_here: as in `prepare`.
    """
    listed = find_text(config)
    inputs = inputs_sha256(config)
    known = recall(config, listed, inputs)
    if known and not fits:
        return known
    check_writable(config.output)
    prepared = prepare(
        config, listed, SAMPLE_BYTES if fits else _DRY_SAMPLE_BYTES, run_tasks, known, fits, predicts_here
    )
    begin(config, prepared, inputs)
    return prepared


def _start_part(config: PipelineConfig) -> Plan:
    """Does the same for a part of a run. The first part checks and begins the run; parts that start meanwhile wait."""

    def has_begun() -> bool:
        return exists(join(config.output, VOCABULARY_FILE))

    if not has_begun():
        _log.info("checking text and teachers (or waiting for another part that checks them)")
        with taking_turns(config.output):
            if not has_begun():
                return _start(config, in_threads, fits=False, predicts_here=True)
    # Another machine may see other files: it checks them itself, and no other part waits for it.
    return _start(config, in_threads, fits=False, predicts_here=True)


def begin(config: PipelineConfig, prepared: Prepared, inputs: str | None = None) -> None:
    """Marks the output as this run's, and writes what its workers need: the vocabulary last of these.

    Args:
      inputs: the sha256 of the run's inputs, by which a later call recognizes it (`pipeline.job.plan`).
    """
    claim_output(config.output, prepared.run)
    for language, corpus in prepared.corpora.items():
        write_corpus(config, language, corpus)
    remember(config, inputs, prepared.run)
    write_vocabulary(join(config.output, VOCABULARY_FILE), prepared.vocabulary)
    if prepared.made:
        write_tokenizers(config.output, prepared.made)


def _finish(config: PipelineConfig, plan: Plan, complete: Finished) -> Manifest:
    """Writes the manifest of a run with no missing units. Raises UserError if too many records were rejected."""
    manifest = make_manifest(config, plan.run, complete)
    write_manifest(config.output, manifest)
    return manifest


def _sizes(plan: Plan, units: list[Unit]) -> dict[Unit, int]:
    """Returns the bytes of text of each unit."""
    corpora = {(text.language, text.teacher): text.corpus for text in plan.texts}
    sizes = {}
    for unit in units:
        corpus = corpora[unit.language, unit.teacher]
        sizes[unit] = min(corpus.unit_bytes, corpus.size - unit.number * corpus.unit_bytes)
    return sizes


def dry_run(config: PipelineConfig, beam_arguments: list[str]) -> list[Estimate]:
    """Checks everything that `run_pipeline` checks, writes nothing, and estimates what each language would take."""
    options = _options(config, beam_arguments)
    prepared = prepare(config, find_text(config), _DRY_SAMPLE_BYTES, predicts_here=works_here(options))
    check_output(config.output, prepared.run)

    def with_teacher(name: str, texts: Iterable[TeacherText]) -> list[Estimate]:
        # A function, so that its local teacher is freed before the next one is loaded.
        fingerprint = prepared.run.teachers[name].fingerprint
        teacher = load_teacher(name, config, prepared.vocabulary, None, fingerprint)
        return [estimate(text, teacher) for text in texts]

    by_teacher = groupby(prepared.texts, key=lambda text: text.teacher)
    return [language_estimate for name, texts in by_teacher for language_estimate in with_teacher(name, texts)]


def _options(config: PipelineConfig, beam_arguments: list[str]) -> PipelineOptions:
    """Returns Beam's options. Raises UserError if they are invalid or do not fit where the output and the text are."""
    options = beam_options(beam_arguments)
    check_output_folder(config.output)
    if not is_dataflow(options):
        return options
    if local_path(config.output) is not None:
        raise UserError(
            f"output: {config.output} is a folder on this machine, where Dataflow's workers cannot write; give a URL"
        )
    for language, text in config.text.items():
        for pattern in text.files:
            if local_path(pattern) is not None:
                raise UserError(
                    f"text.{language}: {pattern} is on this machine, where Dataflow's workers cannot read; give a URL"
                )
    return options
