"""Dataflow without Google: the job's template, written into an emulator by the program that a Flex Template calls."""

import importlib.util
import io
import json
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from apache_beam.internal import pickler
from apache_beam.portability.api import beam_runner_api_pb2 as beam_api

from benchmarks.scale.text import configuration
from pipeline.config import PipelineConfig
from pipeline.engine.options import beam_options
from pipeline.job.beam_job import process
from pipeline.job.fingerprint import RunSpec, TextRecord
from pipeline.job.worker import PredictUnits
from pipeline.text.survey import find_text
from pipeline.text.units import TeacherText
from schemas.manifest import VocabularyRecord
from schemas.storage import list_files, read_bytes, write_bytes
from tests.support import gcs
from tests.support.paths import ROOT

VOCABULARY = VocabularyRecord(size=1, sha256="")
BUCKET = f"gs://{gcs.BUCKET}"
IMAGE = "example.com/mergedistill-pipeline:1"
ACCELERATOR = "worker_accelerator=type:nvidia-tesla-t4;count:1;install-nvidia-driver"
ONE_PROCESS = "no_use_multiple_sdk_containers"
OPTIONS = [
    "--runner=DataflowRunner",
    "--no_auth",
    "--project=my-project",
    "--region=us-central1",
    f"--temp_location={BUCKET}/tmp",
    f"--template_location={BUCKET}/template.json",
    f"--sdk_container_image={IMAGE}",
    "--sdk_location=container",
    f"--dataflow_service_options={ACCELERATOR}",
    f"--experiments={ONE_PROCESS}",
]


def flex_template() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flex_template", ROOT / "docker" / "flex_template.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def emulator() -> Iterator[None]:
    """A bucket, without Beam's search for credentials, which takes twenty seconds despite --no_auth."""
    with gcs.bucket(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("apache_beam.io.gcp.gcsio.auth.get_service_credentials", lambda _: None)
        yield


@pytest.fixture(scope="module")
def written(text, pipeline_settings, tmp_path_factory) -> SimpleNamespace:
    """The job's JSON, its pipeline, the names of all objects in the bucket, and the printed output."""
    settings = pipeline_settings(f"{BUCKET}/out")
    settings["text"] = {language: [f"{BUCKET}/text/{language}.txt"] for language in settings["text"]}
    printed = io.StringIO()
    with emulator(), redirect_stdout(printed):
        for language, (url,) in settings["text"].items():
            write_bytes(url, (text / f"{language}.txt").read_bytes())
        write_bytes(f"{BUCKET}/predictions.yaml", yaml.safe_dump(settings).encode())
        assert flex_template().launch([f"--config={BUCKET}/predictions.yaml", "--overrides=seed=3", *OPTIONS]) == 0
        job = json.loads(read_bytes(f"{BUCKET}/template.json"))
        options = job["environment"]["sdkPipelineOptions"]["options"]
        pipeline = beam_api.Pipeline.FromString(read_bytes(options["pipelineUrl"]))
        return SimpleNamespace(
            job=job,
            options=options,
            pipeline=pipeline,
            objects=list_files(BUCKET),
            run=read_bytes(f"{BUCKET}/out/_run.json"),
            printed=printed.getvalue(),
        )


def test_the_command_says_that_it_wrote_a_template_and_stops(written):
    assert "template is written" in written.printed
    ours = {name.removeprefix("out/") for name in written.objects if name.startswith("out/")}
    tokenizers, checked = ({name for name in ours if name.startswith(start)} for start in ("_tokenizers/", "_checked/"))
    assert tokenizers and len(checked) == 1 and ours - tokenizers - checked == {
        "_run.json", "_vocabulary.parquet", "_words.parquet", *(f"_text/{name}.parquet" for name in ("en", "hi", "ru"))
    }  # fmt: skip


def test_the_job_asks_for_the_image_the_accelerator_and_one_process(written):
    environment = written.job["environment"]
    (pool,) = environment["workerPools"]
    assert {image["containerImage"] for image in pool["sdkHarnessContainerImages"]} == {IMAGE}
    assert written.options["dataflow_service_options"] == [ACCELERATOR]
    assert {ONE_PROCESS, "use_runner_v2"} <= set(environment["experiments"])


def test_the_overrides_count(written):
    assert json.loads(written.run)["settings"]["seed"] == 3


def test_the_parameters_are_options_of_the_command():
    parameters = {
        parameter["name"]: parameter
        for parameter in json.loads((ROOT / "docker" / "flex_template.json").read_text())["parameters"]
    }
    assert set(parameters) - {"config", "overrides"} == {
        "sdk_container_image", "sdk_location", "dataflow_service_options", "experiments"
    }  # fmt: skip
    assert all(any(option.startswith(f"--{name}=") for option in OPTIONS) for name in parameters if "_" in name)
    (pattern,) = parameters["config"]["regexes"]
    assert re.match(pattern, "gs://bucket/folder/predictions.yaml") and not re.match(pattern, "predictions.yaml")
    errors = io.StringIO()
    with redirect_stderr(errors):
        assert flex_template().launch(["--config=no/such.yaml"]) == 2
    assert "no/such.yaml" in errors.getvalue() and "Traceback" not in errors.getvalue()


def test_workers_install_nothing(written):
    """Besides the graph, only Beam's own files are staged: the image must suffice, see test_docker."""
    (pool,) = written.job["environment"]["workerPools"]
    staged = {package["name"] for package in pool["packages"]}
    assert staged <= {"pickled_main_session", "submission_environment_dependencies.txt"}
    folder = written.options["staging_location"].removeprefix(f"{BUCKET}/")
    assert {posixpath.join(folder, name) for name in staged | {"pipeline.pb"}} <= written.objects.keys()


def test_the_graph_is_ours(written):
    components = written.pipeline.components
    steps = {step.unique_name: step for step in components.transforms.values()}
    teachers = ("en-wordpiece", "ru-unigram", "hi-bpe")
    assert {f"{part} {name}" for part in ("Units of", "Predict with") for name in teachers} <= steps.keys()
    step = steps["Predict with en-wordpiece"]
    docker = beam_api.DockerPayload.FromString(components.environments[step.environment_id].payload)
    assert docker.container_image == IMAGE
    function = pickler.loads(beam_api.ParDoPayload.FromString(step.spec.payload).do_fn.payload)[0]
    assert isinstance(function, PredictUnits)


def test_a_terabyte_is_within_the_limits():
    """10,000 files that the configuration names one by one, 200 languages, 20 teachers, 250,000 shards: 10 MB at most."""
    given = configuration(f"{BUCKET}/out", 10_000, 200)
    files = {
        name: [f"{folder}/{n:06d}.txt" for n in range(50)] for name, spec in given.text.items() for folder in spec.files
    }
    config = PipelineConfig.model_validate(given.model_dump(exclude_unset=True) | {"text": files})
    corpora = find_text(config)
    texts = [
        TeacherText.of(language, name, corpora[language], config)
        for name, teacher in config.teachers.items()
        for language in teacher.languages
    ]
    assert sum(len(corpus.files) for corpus in corpora.values()) == 10_000
    assert sum(corpus.size / config.shard_bytes for corpus in corpora.values()) > 235_000
    digests = {language: TextRecord(files="0" * 64, content="0" * 64) for language in corpora}
    run = RunSpec(settings=config.model_dump(mode="json"), teachers={}, vocabulary=VOCABULARY, text=digests)
    units = [unit for text in texts for unit in text.units]
    with emulator():
        process(units, config, PredictUnits(config, run, None), beam_options(OPTIONS))
        template = read_bytes(f"{BUCKET}/template.json")
        pipeline = read_bytes(json.loads(template)["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"])
    steps = {step.unique_name for step in beam_api.Pipeline.FromString(pipeline).components.transforms.values()}
    assert len([name for name in steps if name.startswith("Predict with ") and "/" not in name]) == 20
    assert len(template) + len(pipeline) < 10e6
