"""The graph of the Beam job: small, with a branch and hints for each teacher."""

import apache_beam as beam
from apache_beam.portability import common_urns

from pipeline.config import PipelineConfig
from pipeline.job.beam_job import build
from pipeline.job.fingerprint import RunSpec
from pipeline.job.worker import PredictUnits
from pipeline.text.units import Unit
from schemas.manifest import VocabularyRecord

RUN = RunSpec(settings={}, teachers={}, vocabulary=VocabularyRecord(size=1, sha256=""), text={})


def graph(config: PipelineConfig, units: list[Unit]):
    job = beam.Pipeline()
    build(job, units, config, PredictUnits(config, RUN, None))
    return job.to_runner_api()


def test_a_terabyte_is_within_dataflows_limits():
    """200 languages and 20 teachers, 250,000 shards; Dataflow accepts 10 MB."""
    names = [f"l{number:03d}" for number in range(200)]
    teachers = {f"t{number:02d}": {"model": "m", "languages": names[number::20]} for number in range(20)}
    config = PipelineConfig(
        output="gs://bucket/o", teachers=teachers, text={name: [f"gs://b/{name}"] for name in names}
    )
    # Units of 20 shards, as for 5 GB of a language.
    units = [
        Unit(language, name, number)
        for name, teacher in config.teachers.items()
        for language in teacher.languages
        for number in range(63)
    ]
    assert graph(config, units).ByteSize() < 5e6


def test_each_teacher_says_what_its_workers_need():
    accelerator = "type:nvidia-l4;count:1;install-nvidia-driver"
    teachers = {
        "large": {"model": "m", "languages": ["en"], "min_ram": "30GB", "accelerator": accelerator},
        "small": {"model": "m", "languages": ["en"]},
    }
    config = PipelineConfig(output="o", teachers=teachers, text={"en": ["x"]})
    made = graph(config, [Unit("en", "large", 0), Unit("en", "small", 0)])
    steps = {step.unique_name: step for step in made.components.transforms.values()}
    hints = {
        name: dict(made.components.environments[steps[f"Predict with {name}"].environment_id].resource_hints)
        for name in teachers
    }
    urns = common_urns.resource_hints
    assert hints["large"] == {
        urns.MIN_RAM_BYTES.urn: str(30 * 10**9).encode(),
        urns.ACCELERATOR.urn: accelerator.encode(),
    }
    assert not hints["small"]


def test_a_teacher_without_work_has_no_branch():
    teachers = {name: {"model": "m", "languages": ["en"]} for name in ("a", "b")}
    config = PipelineConfig(output="o", teachers=teachers, text={"en": ["x"]})
    steps = {step.unique_name for step in graph(config, [Unit("en", "a", 0)]).components.transforms.values()}
    assert "Predict with a" in steps and "Predict with b" not in steps
