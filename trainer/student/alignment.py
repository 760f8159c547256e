"""Maps token rows of one teacher into the space of another, using the tokens that both have.

The rows of two teachers are in unrelated spaces: the meaning of a direction depends on each teacher's random
initialization. Each method here learns from the shared tokens how to map one space into the other, and applies this to
more rows. All of them subtract the mean of the shared rows, and add the mean of these tokens in the other space: the
two sets of rows have different centres, and a constant that is added to all rows or biases changes no probability of a
tied head.

Legend: S shared tokens, N tokens to map, G width of the source space, H width of the target space, R rank.
"""

from collections.abc import Callable

import torch

from trainer.student.matching_pursuit import matching_pursuit

# Ridge penalties, as shares of the largest squared singular value.
_PENALTIES = torch.logspace(-10, 2, 49, dtype=torch.float64)
# Weight of the identity relative to the shared tokens: above rounding errors, yet negligible.
_TOWARDS_IDENTITY = 1e-8
# Limits for the tokens in a combination: a fraction of the width, because otherwise any row could be represented, and
# an absolute number, because the time is proportional to it.
_PART_OF_WIDTH, _MOST_ATOMS = 4, 32
# The methods that map rows of one width to rows of another.
ANY_WIDTH = ("least_squares", "omp")
# Rows per batch of `omp`.
_BATCH = 512


def align_tables(
    method: str, rows: list[torch.Tensor], shared: list[torch.Tensor], anchors: list[torch.Tensor]
) -> list[torch.Tensor]:
    """Maps embedding rows, output biases and an untied projection's rows of N tokens into another model's space.

    The embedding's rows and an untied projection's rows are in different spaces and are mapped separately. A bias is an
    offset to a logit: in nats in every model, and defined up to a constant. So a linear method only shifts the biases,
    such that the mean of the shared tokens is that of the anchors. With `omp` a token's logit becomes a combination of
    other tokens' logits, and so does its bias.

    Args:
      rows, shared, anchors: [embedding, bias] or [embedding, bias, projection] of the N tokens, of the S shared tokens,
        and of the S shared tokens in the other space.

    Returns:
      The tables of the N tokens in the other space, float32.
    """
    biases_N, shared_biases_S, anchor_biases_S = (tables[1].double() for tables in (rows, shared, anchors))
    rows, shared, anchors = ([embedding, *projection] for embedding, _, *projection in (rows, shared, anchors))
    if method == "omp":
        # The biases become an additional column of the output rows.
        anchors[-1] = torch.cat([anchors[-1].double(), anchor_biases_S[:, None]], 1)
    mapped = [align_rows(method, *tables) for tables in zip(rows, shared, anchors, strict=True)]
    if method == "omp":
        mapped[-1], biases_N = mapped[-1][:, :-1], mapped[-1][:, -1]
    else:
        biases_N = biases_N + (anchor_biases_S.mean() - shared_biases_S.mean())
    return [table.float() for table in (mapped[0], biases_N, *mapped[1:])]


def align_rows(method: str, rows_NG: torch.Tensor, shared_SG: torch.Tensor, anchors_SH: torch.Tensor) -> torch.Tensor:
    """Maps the rows `rows_NG` into the space of the anchors.

    Args:
      method: `orthogonal`, `least_squares` or `omp`.
      shared_SG, anchors_SH: the rows of the shared tokens, in the two spaces.

    Returns:
      float64 [N, H]
    """
    rows_NG, shared_SG, anchors_SH = (rows.double() for rows in (rows_NG, shared_SG, anchors_SH))
    their_mean, our_mean = shared_SG.mean(0), anchors_SH.mean(0)
    return our_mean + _METHODS[method](rows_NG - their_mean, shared_SG - their_mean, anchors_SH - our_mean)


def shared_needed(method: str, width: int) -> int:
    """Returns the number of shared tokens that a method needs for rows of a width.

    Determining a map takes more of them than the width. With fewer, `orthogonal` leaves the undetermined directions as
    they are, and the ridge of `least_squares` shrinks them. With two, every penalty has the same cross-validation
    error.
    """
    return {"orthogonal": 2, "least_squares": 3, "omp": max(2, _atoms(width))}[method]


def _orthogonal(rows_NG: torch.Tensor, shared_SG: torch.Tensor, anchors_SG: torch.Tensor) -> torch.Tensor:
    """Applies the rotation (or reflection) that maps the shared tokens nearest to the anchors, and one scale.

    argmin_Q |shared Q - anchors|, Q orthogonal, is U V^T of the singular value decomposition of shared^T anchors
    (Schoenemann 1966). If the shared tokens do not span the space, several Q are equally good, and this takes the one
    nearest to the identity. The scale makes the shared tokens as long as the anchors. A scale that minimised the
    distance would shorten rows more, the worse they fit.
    """
    if not shared_SG.any():
        # Equal rows determine nothing but the mean.
        return torch.zeros_like(rows_NG)
    products_GG = shared_SG.T @ anchors_SG
    products_GG += _TOWARDS_IDENTITY * torch.linalg.matrix_norm(products_GG, 2) * torch.eye(len(products_GG))
    u_GG, _, v_GG = torch.linalg.svd(products_GG)
    return rows_NG @ (u_GG @ v_GG) * (anchors_SG.norm() / shared_SG.norm())


def _least_squares(rows_NG: torch.Tensor, shared_SG: torch.Tensor, anchors_SH: torch.Tensor) -> torch.Tensor:
    """Applies the linear map W that minimises |shared W - anchors|^2 + penalty |W|^2.

    The penalty is the one in `_PENALTIES` with the lowest generalised cross-validation error (Golub, Heath and Wahba
    1979), |residual|^2 / (S - 1 - degrees of freedom)^2. The 1 is the mean's degree of freedom.
    """
    u_SR, sizes_R, v_RG = torch.linalg.svd(shared_SG, full_matrices=False)
    rank = int((sizes_R > sizes_R[0] * max(shared_SG.shape) * torch.finfo(torch.float64).eps).sum())
    u_SR, sizes_R, v_RG = u_SR[:, :rank], sizes_R[:rank], v_RG[:rank]
    along_RH = u_SR.T @ anchors_SH
    if not rank:
        return rows_NG.new_zeros(len(rows_NG), anchors_SH.shape[1])
    penalties_P1 = (_PENALTIES * sizes_R[0] ** 2)[:, None]
    lost_PR = penalties_P1 / (sizes_R**2 + penalties_P1)
    residuals_P = (anchors_SH - u_SR @ along_RH).square().sum() + lost_PR**2 @ along_RH.square().sum(1)
    errors_P = residuals_P / (len(shared_SG) - 1 - rank + lost_PR.sum(1)) ** 2
    kept_R = 1 - lost_PR[errors_P.argmin()]
    return (rows_NG @ v_RG.T * (kept_R / sizes_R)) @ along_RH


def _omp(rows_NG: torch.Tensor, shared_SG: torch.Tensor, anchors_SH: torch.Tensor) -> torch.Tensor:
    """Finds the combination of a few shared tokens that is nearest to a row, and applies it to their anchors.

    Goddard and Fernandes Neto 2025, https://arxiv.org/abs/2506.06607.
    """
    batches = []
    for batch_BG in rows_NG.split(_BATCH):
        chosen_BK, weights_BK = matching_pursuit(batch_BG, shared_SG, _atoms(shared_SG.shape[1]))
        batches.append(torch.einsum("bk,bkh->bh", weights_BK, anchors_SH[chosen_BK]))
    return torch.cat(batches)


def _atoms(width: int) -> int:
    return max(1, min(_MOST_ATOMS, width // _PART_OF_WIDTH))


_METHODS: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "orthogonal": _orthogonal,
    "least_squares": _least_squares,
    "omp": _omp,
}
