"""Copies a teacher's encoder into a student of the same family and width."""

import re

import torch
from transformers import PreTrainedModel

from schemas.errors import UserError

# Model types that differ in name only.
_SAME = {"xlm-roberta": "roberta", "camembert": "roberta"}
# Settings, in the names of all families, that must agree for weights of the same name and shape to mean the same.
_DECISIVE = ("num_attention_heads", "n_heads", "hidden_act", "activation", "layer_norm_eps")
_LAYER = re.compile(r"(.+?\.)(\d+)(\..+)")
# Tables whose number of rows may differ between two models.
_TABLES = ("position_embeddings.weight", "token_type_embeddings.weight")


@torch.no_grad()
def copy_encoder(student: PreTrainedModel, teacher: PreTrainedModel, name: str) -> str:
    """Overwrites the student's weights, except those with one row for each token, with those of the teacher `name`.

    These are the layers, the position and token type embeddings, the norms, and the head's transform. Layer i of a
    student of n layers gets layer floor(i m / n) of the teacher's m. Positions are counted from the first real one,
    wherever it is in a model's table; if the student has more positions than the teacher, the additional ones do not
    change.

    Returns:
      A line that describes what was copied.

    Raises:
      UserError: their families, widths or computations differ, or the teacher has fewer layers.
    """
    ours, theirs = _weights(student), _weights(teacher)
    depth, their_depth = _depth(ours), _depth(theirs)
    _check(student, teacher, name, depth, their_depth)
    layers = [layer * their_depth // depth for layer in range(depth)]
    for key, target in ours.items():
        source = _LAYER.sub(lambda match: f"{match[1]}{layers[int(match[2])]}{match[3]}", key, count=1)
        rows = min(len(target), len(theirs[source])) if key.endswith(_TABLES) and source in theirs else None
        if source not in theirs or target[:rows].shape != theirs[source][:rows].shape:
            shape = list(theirs[source].shape) if source in theirs else "missing"
            raise UserError(
                f"student.encoder_from: the student's {key} has the shape {list(target.shape)}, but in teacher {name!r} it "
                f"is {shape}; give the student that teacher's shape (student.architecture_from)"
            )
        target[:rows].copy_(theirs[source][:rows])
    return f"encoder of {name}: took layers {', '.join(map(str, layers))} of {their_depth}"


def _check(student: PreTrainedModel, teacher: PreTrainedModel, name: str, depth: int, their_depth: int) -> None:
    refusal = f"student.encoder_from: the student cannot take the encoder of teacher {name!r}"
    mine, wanted = student.config.model_type, teacher.config.model_type
    if _SAME.get(mine, mine) != _SAME.get(wanted, wanted):
        raise UserError(
            f"{refusal}: its model_type is {mine}, the teacher's {wanted}; set student.settings.model_type: {wanted}"
        )
    if depth > their_depth:
        raise UserError(
            f"{refusal}: it has {depth} layers, but the teacher has {their_depth}; lower its number in student.settings"
        )
    for setting in _DECISIVE:
        ours, theirs = (getattr(model.config, setting, None) for model in (student, teacher))
        if ours != theirs:
            raise UserError(
                f"{refusal}: its {setting} is {ours}, the teacher's {theirs}; set student.settings.{setting}: {theirs}"
            )


def _weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """All weights except those of tokens, by name without the family's prefix; positions from the first real one on."""
    of_tokens = _token_weights(model)
    result: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        if name in of_tokens:
            continue
        tensor: torch.Tensor = parameter
        if name.endswith("position_embeddings.weight"):
            # RoBERTa's family starts counting after the padding id.
            padding = getattr(model.get_submodule(name.removesuffix(".weight")), "padding_idx", None)
            tensor = tensor[0 if padding is None else padding + 1 :]
        result[name.removeprefix(f"{model.base_model_prefix}.")] = tensor
    return result


def _token_weights(model: PreTrainedModel) -> set[str]:
    """All names of the weights with one row for each token."""
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    rows = {id(parameter) for module in modules for parameter in module.parameters()}
    names = {name for name, parameter in model.named_parameters(remove_duplicate=False) if id(parameter) in rows}
    for pair in (model._tied_weights_keys or {}).items():
        # A model that does not tie its weights may still have the other weight of the pair, unused.
        if names & set(pair):
            names |= set(pair)
    return names


def _depth(names: dict[str, torch.Tensor]) -> int:
    """The number of layers."""
    return max((int(match[2]) + 1 for name in names if (match := _LAYER.fullmatch(name))), default=0)
