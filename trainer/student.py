"""The student: any `AutoModelForMaskedLM` architecture over the merged vocabulary."""

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel

from schemas.errors import UserError
from schemas.vocabulary import Vocabulary
from trainer.collate import Batch
from trainer.config import StudentConfig
from trainer.loss import Losses, distillation_loss

# The transformers configuration's names of the special ids, by role.
_SPECIAL_IDS = {"pad_token_id": "pad", "bos_token_id": "start", "eos_token_id": "end"}


def student_config(config: StudentConfig, vocabulary: Vocabulary, max_length: int) -> PreTrainedConfig:
    """The student's transformers configuration, over the merged vocabulary.

    Raises:
      UserError: an unknown model type or field, or positions for fewer than `max_length` tokens.
    """
    special_ids = {field: vocabulary.id_of(role) for field, role in _SPECIAL_IDS.items() if role in vocabulary.roles}
    settings = {**config.settings, **special_ids, "vocab_size": len(vocabulary)}
    model_type = settings.pop("model_type", None)
    try:
        if config.like is not None:
            shape = AutoConfig.from_pretrained(config.like, revision=config.revision)
            model_type = model_type or shape.model_type
            settings = {**shape.to_diff_dict(), **settings}
            settings.pop("model_type", None)
        known = set(AutoConfig.for_model(model_type).to_dict())
        if unknown := [
            field for field in config.settings if field not in known | {"attn_implementation", "model_type"}
        ]:
            raise UserError(f"student.settings.{unknown[0]}: a {model_type} configuration has no such field")
        result = AutoConfig.for_model(model_type, **settings)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"student: {str(error).strip().splitlines()[0]}") from None
    positions = getattr(result, "max_position_embeddings", None)
    # RoBERTa's family counts positions from the padding id on.
    offset = result.pad_token_id + 1 if "roberta" in model_type or model_type == "camembert" else 0
    if positions is not None and positions < max_length + offset:
        raise UserError(
            f"student.settings.max_position_embeddings is {positions}, but the predictions' sequences have up to "
            f"{max_length} tokens: give it at least {max_length + offset}"
        )
    return result


def build_student(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A student with random weights, a function of its configuration and `seed`."""
    torch.manual_seed(seed)
    try:
        return AutoModelForMaskedLM.from_config(config)
    except ValueError as error:
        raise UserError(f"student: {str(error).strip().splitlines()[0]}") from None


class DistilledStudent(nn.Module):
    """The training view of a masked LM: from a batch to its losses.

    The encoder runs once; a forward hook keeps its output at masked positions only, so
    the head runs nowhere else; and the head's last layer, the projection onto the
    vocabulary, is left to `distillation_loss`. The model's own parameters are used in
    place, so saving the wrapped model saves the student.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model
        self._rows_M: torch.Tensor | None = None
        model.base_model.register_forward_hook(self._keep_rows)
        projection = model.get_output_embeddings()
        if not isinstance(projection, nn.Linear) or projection.bias is None:
            raise UserError(
                f"student: {type(model).__name__} has no plain vocabulary projection; choose another model_type"
            )
        # The head then returns what its projection would have been applied to.
        projection.forward = lambda hidden: hidden

    def _keep_rows(self, module, arguments, output):
        output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[self._rows_M][None]
        return output

    def hidden(self, batch: Batch) -> torch.Tensor:
        """[M, H]: what the vocabulary projection is applied to, at the batch's masked positions."""
        self._rows_M = batch.rows_M
        return self.model(input_ids=batch.input_ids_BL, attention_mask=batch.attention_mask_BL).logits[0]

    def forward(self, batch: Batch, weight: float, tail: str) -> Losses:
        """The batch's summed losses (`trainer.loss`)."""
        projection = self.model.get_output_embeddings()
        return distillation_loss(
            self.hidden(batch),
            projection.weight,
            projection.bias,
            batch.labels_M,
            batch.topk_ids_MK,
            batch.topk_logprobs_MK,
            weight,
            tail,
        )
