"""The student: other architectures, which parameters are trained, and a step that never waits for the device."""

from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForMaskedLM

from schemas.errors import UserError
from schemas.predictions import open_predictions
from tests.support.readers import reader, take
from tests.support.training import (
    NEEDS_COMPILER,
    assert_close_weights,
    launch_two,
    train,
    write_config,
)
from trainer.artifacts.metrics import Metrics
from trainer.config import StudentConfig, TrainerConfig
from trainer.distributed import Runtime
from trainer.loop.skipped_steps import SkippedSteps
from trainer.loop.step import make_learner, train_step
from trainer.student.model import DistilledStudent, build_student, student_config

ALONE = Runtime(0, 1, torch.device("cpu"), torch.float32)
# With the field names of all families.
SHAPE = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "embedding_size": 16, "max_position_embeddings": 40,
}  # fmt: skip


def small_model(model_type: str, opened, **settings):
    known = AutoConfig.for_model(model_type).to_dict().keys()
    settings = {"model_type": model_type} | {name: SHAPE[name] for name in SHAPE if name in known} | settings
    return build_student(student_config(StudentConfig(settings=settings), opened.vocabulary, opened.max_length), 0)


def padded_and_not(predictions) -> list:
    """A batch with padding and one without."""
    batches = take(reader(predictions), 60)
    is_padded = [batch.tokens < batch.input_ids_BL.numel() for batch in batches]
    return [batches[is_padded.index(True)], batches[is_padded.index(False)]]


# ModernBERT has sliding windows, EuroBERT a projection without bias, FNet and BigBird a pooler, DeBERTa no SDPA.
@pytest.mark.parametrize(
    "model_type",
    [
        "roberta",
        "xlm-roberta",
        "distilbert",
        "electra",
        "albert",
        "modernbert",
        "eurobert",
        "fnet",
        "big_bird",
        "deberta",
    ],
)
def test_students_of_other_architectures(model_type, predictions):
    """The loss equals that of the plain model, and every parameter that is not frozen has a gradient."""
    opened = open_predictions(str(predictions))
    windows = {"local_attention": 4} if model_type == "modernbert" else {}
    plain, student = (small_model(model_type, opened, **windows).eval() for _ in range(2))
    student = DistilledStudent(student)
    for batch in padded_and_not(predictions):
        with torch.no_grad():
            logits = plain(input_ids=batch.input_ids_BL, attention_mask=batch.attention_mask_BL).logits
        logits = logits.flatten(0, 1)[batch.rows_M]
        expected = functional.cross_entropy(logits, batch.labels_M.long(), reduction="none")
        losses = student(batch, torch.full((len(batch.labels_M),), 0.5))
        torch.testing.assert_close(losses.mlm_M, expected, rtol=1e-4, atol=1e-4)
        losses.total.backward()
    trained = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in student.named_parameters() if parameter.grad is not None}
    assert len(trained) == len(list(student.parameters())) or model_type in ("fnet", "big_bird")


@pytest.mark.parametrize(
    ("model_type", "why"), [("mobilebert", "does not get 16 numbers"), ("xmod", "language unknown")]
)
def test_an_architecture_that_cannot_be_trained_is_refused(model_type, why, predictions):
    with pytest.raises(UserError, match=f"student: a .*ForMaskedLM cannot be trained here .*{why}"):
        DistilledStudent(small_model(model_type, open_predictions(str(predictions)), hidden_size=32))


@pytest.mark.heavy
def test_two_processes_do_not_wait_for_gradients_that_never_come(predictions, tmp_path):
    """FNet has a pooler that the head does not read."""
    shape = {"model_type": "fnet", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
    changes = {"max_steps": 6, "micro_batches": 2, "student": {"settings": shape | {"max_position_embeddings": 40}}}
    for name, run in [("one", train), ("two", launch_two)]:
        done = run(write_config(tmp_path / name, predictions, None, **changes))
        assert done.returncode == 0, done.stderr
    assert_close_weights(tmp_path / "one" / "student", tmp_path / "two" / "student")


def test_a_student_like_a_bfloat16_model_is_float32(teachers, predictions, tmp_path):
    opened = open_predictions(str(predictions))
    AutoModelForMaskedLM.from_pretrained(teachers / "en-wordpiece").bfloat16().save_pretrained(tmp_path)
    config = student_config(StudentConfig(architecture_from=str(tmp_path)), opened.vocabulary, opened.max_length)
    model = build_student(config, 0)
    assert config.hidden_size == 16 and model.dtype == torch.float32


class Waits(TorchDispatchMode):
    """Records the operations for whose result the host would have to wait if the tensors were on a GPU."""

    ASKING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim"}

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").partition(".")[0]
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in self.ASKING or by_mask:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta", "distilbert", "modernbert", "deberta"])
def test_a_step_waits_for_nothing(model_type, predictions, tmp_path):
    opened, batches = open_predictions(str(predictions)), padded_and_not(predictions)
    plain = small_model(model_type, opened)
    # A wait would be noticed: SDPA checks every mask, and DeBERTa's attention waits if there is none.
    with Waits() as asked:
        plain(batches[1].input_ids_BL, attention_mask=None if model_type == "deberta" else batches[1].attention_mask_BL)
    assert asked.names
    settings = {"output": str(tmp_path), "predictions": "p", "student": {"architecture_from": "m"}, "max_steps": 2}
    config = TrainerConfig(**settings, distillation={"confidence_power": 1, "temperature": 2})
    source = reader(predictions)
    owned_TV = torch.ones(len(source.teachers), len(opened.vocabulary), dtype=torch.bool)
    learner = make_learner(config, ALONE, DistilledStudent(plain).train(), source.languages, owned_TV)
    metrics, skipped = Metrics(config, source.languages, 0, ALONE), SkippedSteps(1, 0, ALONE)
    # The first step creates the optimizer's moments.
    for step, watching in enumerate([nullcontext(), Waits()], 1):
        with watching:
            train_step(learner, step, dict(enumerate(batches)), 100, metrics, skipped)
    metrics.close()
    assert watching.names == []


def small_student(predictions, **settings) -> DistilledStudent:
    opened = open_predictions(str(predictions))
    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    shape |= {"max_position_embeddings": 40, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} | settings
    config = student_config(StudentConfig(settings=shape), opened.vocabulary, opened.max_length)
    return DistilledStudent(build_student(config, 0))


def test_checkpointing_keeps_less(predictions):
    """Autograd saves fewer bytes of a forward pass."""
    batch = take(reader(predictions), 1)[0]
    kept = []
    for checkpoints in (False, True):
        student = small_student(predictions, model_type="bert").train()
        if checkpoints:
            student.checkpoint_gradients()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: saved.append(x.nbytes) or x, lambda x: x):
            student(batch, torch.full((len(batch.labels_M),), 0.5))
        kept.append(sum(saved))
    assert kept[1] < kept[0] / 4


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta", "electra"])
def test_the_layers_are_the_encoders(model_type, predictions):
    student = small_student(predictions, model_type=model_type)
    assert [type(layer).__name__.endswith("Layer") for layer in student.layers()] == [True] * 3
    assert len({id(layer) for layer in student.layers()}) == 3


@pytest.mark.heavy
@NEEDS_COMPILER
def test_compiled_kernels_compute_the_same(predictions):
    """Losses and gradients are the same for batches of several shapes, without recompiling for each shape."""
    plain, compiled = (small_student(predictions, model_type="bert").train() for _ in range(2))
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    compiled.compile_kernels()
    batches = take(reader(predictions), 6)
    assert len({batch.input_ids_BL.shape for batch in batches}) > 3
    for batch in batches:
        for student in (plain, compiled):
            student(batch, torch.full((len(batch.labels_M),), 0.5)).total.backward()
    for (name, ours), theirs in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad, rtol=1e-3, atol=1e-3, msg=name)
    # Two graphs of the layers and two of the loss.
    assert 0 < counters["stats"]["unique_graphs"] <= 4
