"""The student: any `AutoModelForMaskedLM` architecture over the merged vocabulary."""

import json
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel

from schemas.errors import UserError, first_line
from schemas.loading import loading_error
from schemas.model_sizes import check_sizes, longest_sequence
from schemas.vocabulary import SPECIAL_ROLES, TRANSFORMERS_ROLES, Vocabulary
from trainer.config import StudentConfig
from trainer.data.batches import Batch
from trainer.loss.objective import Objective
from trainer.loss.sparse import Losses, Ownership, distillation_loss
from trainer.student.attention import use_masks_as_given
from trainer.student.start import Start

# Fields of a model's configuration that do not belong to its shape.
_NO_SHAPE = {
    "model_type",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "architectures",
    "tokenizer_class",
    "_name_or_path",
    "auto_map",
}
# A configuration calls a special id `<name>_token_id`, in XLM's family also `<name>_index`.
_ANY_ID = re.compile(rf"(?P<name>.+)_token_id|(?P<index>{'|'.join(TRANSFORMERS_ROLES)})_index")
# Set only if a family uses them: BART's starts its decoder with the end token and may force it to come last.
_OPTIONAL_ROLES = {"decoder_start": "end", "forced_bos": "start", "forced_eos": "end"}


def student_config(
    config: StudentConfig, vocabulary: Vocabulary, max_length: int, start: Start | None = None
) -> PreTrainedConfig:
    """Returns the student's transformers configuration over the merged vocabulary.

    Args:
      start: the model that the student continues from; it has the same shape.

    Raises:
      UserError: an unknown model type, field or value, or positions for fewer than `max_length` tokens.
    """
    settings: dict[str, Any] = dict(config.settings)
    model_type = settings.pop("model_type", None)
    source, revision = (start.model, start.revision) if start else (config.architecture_from, config.revision)
    try:
        if source is not None:
            shape = _shape_of("start_from" if start else "architecture_from", source, revision)
            model_type = model_type or shape.model_type
            # Only the shape, without for example the precision in which that model is stored.
            settings = {key: value for key, value in shape.to_diff_dict().items() if key not in _NO_SHAPE} | settings
        known = AutoConfig.for_model(model_type).to_dict().keys() | {"attn_implementation", "model_type"}
        if unknown := [field for field in config.settings if field not in known]:
            raise UserError(f"student.settings.{unknown[0]}: a {model_type} configuration has no such field")
        result = AutoConfig.for_model(model_type, **settings)
        _set_vocabulary(result, vocabulary)
    except UserError:
        raise
    except Exception as error:
        # transformers may raise anything for a user's settings, and the user can correct them.
        raise UserError(f"student: {first_line(error)}") from None
    if start and (shifted := longest_sequence(shape) - longest_sequence(result)):
        # RoBERTa's family counts positions from the padding id, which has changed; keep the number of readable tokens.
        result.max_position_embeddings += shifted
    check_length(result, max_length)
    return result


def check_length(config: PreTrainedConfig, max_length: int) -> None:
    """Raises UserError if a student of this configuration cannot read `max_length` tokens."""
    if longest_sequence(config) < max_length:
        positions = config.max_position_embeddings + max_length - longest_sequence(config)
        raise UserError(
            f"student.settings.max_position_embeddings is {config.max_position_embeddings}, but the predictions' "
            f"sequences have up to {max_length} tokens; set it to at least {positions}"
        )


def config_to_json(config: PreTrainedConfig) -> dict:
    """Returns a configuration as JSON values from which `config_from_json` rebuilds it without other files."""
    # transformers leaves out the attention implementation.
    return json.loads(config.to_json_string(use_diff=False)) | {"attn_implementation": config._attn_implementation}


def config_from_json(fields: dict) -> PreTrainedConfig:
    """Undoes `config_to_json`."""
    return AutoConfig.for_model(**fields)


def _set_vocabulary(config: PreTrainedConfig, vocabulary: Vocabulary) -> None:
    """Sets the vocabulary size and every field with the id of a special token, in nested configurations too.

    The id is None if the vocabulary has no such token.
    """
    ids = {role: vocabulary.id_of(role) for role in SPECIAL_ROLES if role in vocabulary.roles}
    # transformers reads these three for every model, even if the configuration does not list them.
    for name in ("pad", "bos", "eos"):
        setattr(config, f"{name}_token_id", ids.get(TRANSFORMERS_ROLES[name]))
    for part in _parts(config):
        for field, value in list(vars(part).items()):
            if match := _ANY_ID.fullmatch(field):
                name = match["name"] or match["index"]
                role = TRANSFORMERS_ROLES.get(name) or (_OPTIONAL_ROLES.get(name) if value is not None else None)
                try:
                    setattr(part, field, ids.get(role) if role else None)
                except Exception:  # another package checks the field's type and raises its own errors
                    # For example a token for an image, which may not be None. No text contains the padding id.
                    setattr(part, field, ids["pad"])
        if hasattr(part, "vocab_size"):
            part.vocab_size = len(vocabulary)


def _parts(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """Yields a configuration and the configurations in it."""
    yield config
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            yield from _parts(value)


def _shape_of(field: str, model: str, revision: str | None) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
    except OSError as error:
        raise UserError(f"student.{field}: {model}: cannot be loaded: {loading_error(error, model)}") from None
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise UserError(
            f"student.{field}: {model} needs its own Python code, which is never run here; "
            "choose a model whose model_type transformers has"
        ) from None


def build_student(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """Returns a float32 student whose random weights depend only on its configuration and `seed`."""
    check_sizes("student: its configuration", config.to_dict())
    torch.manual_seed(seed)
    try:
        return AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
    except Exception as error:
        raise UserError(f"student: {first_line(error)}") from None


def _unfit(model: PreTrainedModel, why: str) -> UserError:
    return UserError(f"student: a {type(model).__name__} cannot be trained here ({why}); choose another model_type")


def _leaves(output: torch.Tensor) -> set[nn.Parameter]:
    """The leaves of autograd's graph that `output` depends on."""
    nodes: list[Any] = [output.grad_fn]
    seen = set(nodes)
    for node in nodes:
        inner = {function for function, _ in node.next_functions if function} - seen
        seen |= inner
        nodes += inner
    return {node.variable for node in nodes if hasattr(node, "variable")}


class DistilledStudent(nn.Module):
    """The training view of a masked LM: from a batch to its losses.

    The encoder runs once. A forward hook keeps its output at masked positions only, so that the head runs only there.
    `distillation_loss` computes the head's last layer, the projection onto the vocabulary. The parameters of the
    wrapped model are used in place, so saving that model saves the student. Parameters that no loss depends on are
    frozen, because the other processes would wait for their gradients.

    Raises:
      UserError: the architecture does not support this.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model
        self._rows_M: torch.Tensor | None = None
        self._compiled = False
        model.base_model.register_forward_hook(self._keep_rows)
        projection = model.get_output_embeddings()
        if not isinstance(projection, nn.Linear):
            raise _unfit(model, "its vocabulary projection is not a linear layer")
        # Makes the head return the input of its projection. A wrapper module would rename the weights.
        projection.forward = lambda hidden: hidden  # type: ignore[method-assign, assignment]
        self._masks_always = not use_masks_as_given(model)
        used = {*self._try(), *projection.parameters()}
        for parameter in model.parameters():
            if parameter not in used:
                parameter.requires_grad_(False)

    @torch.enable_grad()
    def _try(self) -> set[nn.Parameter]:
        """Runs the model on a few tokens; returns the parameters that its output depends on."""
        ids = torch.zeros(1, min(16, longest_sequence(self.model.config)), dtype=torch.int32)
        try:
            hidden = self.hidden(ids, None, torch.tensor([1]))
        except Exception as error:
            raise _unfit(self.model, first_line(error)) from None
        if hidden.shape != (1, (width := self.model.get_output_embeddings().in_features)):
            raise _unfit(self.model, f"its vocabulary projection does not get {width} numbers per position")
        return _leaves(hidden)

    def layers(self) -> list[nn.Module]:
        """The encoder's layers: the members of its outermost lists of modules."""
        lists = [module for module in self.model.base_model.modules() if isinstance(module, nn.ModuleList)]
        inner = {id(part) for outer in lists for part in outer.modules() if part is not outer}
        return [layer for outer in lists if id(outer) not in inner for layer in outer]

    def checkpoint_gradients(self) -> None:
        """Makes layers keep only their inputs for the backward pass. Raises UserError if the architecture cannot."""
        if not self.model.supports_gradient_checkpointing:
            raise UserError(f"gradient_checkpointing: {type(self.model).__name__} does not support it; leave it out")
        self.model.activation_checkpointing_enable({"use_reentrant": False})

    def compile_kernels(self) -> None:
        """Compiles the layers and the loss's passes over the logits with torch.compile."""
        for layer in self.layers():
            layer.compile(dynamic=True)
        self._compiled = True

    def hidden(
        self, input_ids_BL: torch.Tensor, attention_mask_BL: torch.Tensor | None, rows_M: torch.Tensor
    ) -> torch.Tensor:
        """[M, H]: the input of the vocabulary projection at the masked positions."""
        self._rows_M = rows_M
        return self.model(input_ids=input_ids_BL, attention_mask=attention_mask_BL).logits[0]

    def _keep_rows(self, module, arguments, output):
        output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[self._rows_M][None]
        return output

    def forward(
        self,
        batch: Batch,
        lambda_M: torch.Tensor,
        objective: Objective = Objective(),  # noqa: B008, it is frozen
        ownership: Ownership | None = None,
    ) -> Losses:
        """The batch's summed losses (`trainer.loss.sparse`)."""
        is_masked = self._masks_always or batch.tokens < batch.input_ids_BL.numel()
        hidden_MH = self.hidden(batch.input_ids_BL, batch.attention_mask_BL if is_masked else None, batch.rows_M)
        projection = self.model.get_output_embeddings()
        bias_V = projection.bias
        return distillation_loss(
            hidden_MH,
            projection.weight,
            projection.weight.new_zeros(len(projection.weight)) if bias_V is None else bias_V,
            batch.labels_M,
            batch.topk_ids_MK,
            batch.topk_logprobs_MK,
            lambda_M,
            objective,
            ownership,
            batch.tail_ids_MS,
            self._compiled,
        )
