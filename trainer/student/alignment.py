"""Token rows of one teacher in the space of another, by the tokens that both have.

Rows of two teachers lie in unrelated spaces: what a direction means was decided by each teacher's random start. Each
method here learns from the shared tokens how the one space lies in the other, and takes further rows there. All of them
work on rows less the mean of the shared ones, and add the mean that these have in the other space: the two clouds of
rows have different middles, and a constant that is added to all rows or biases changes no probability of a tied head.

Legend: S shared tokens, N tokens to map, G the width of the space that they are in, H that of the other, R rank.
"""

from collections.abc import Callable

import torch

from trainer.student.matching_pursuit import matching_pursuit

# Of the ridge, as shares of the largest squared singular value.
_PENALTIES = torch.logspace(-10, 2, 49, dtype=torch.float64)
# How much the identity counts beside the shared tokens: more than rounding, and nothing beside them.
_TOWARDS_IDENTITY = 1e-8
# Tokens of which a token is a combination: a part of the width, or any row would be met whatever it means, and at most so
# many, because the time is proportional to them.
_PART_OF_WIDTH, _MOST_ATOMS = 4, 32
# The methods that map rows of one width to rows of another.
ANY_WIDTH = ("least_squares", "omp")
# Rows that are combined at a time.
_BATCH = 512


def align_tables(
    method: str, rows: list[torch.Tensor], shared: list[torch.Tensor], anchors: list[torch.Tensor]
) -> list[torch.Tensor]:
    """The embedding's rows, the output biases and an untied projection's rows of N tokens, in another model's space.

    The embedding's rows and an untied projection's lie in spaces of their own, and are mapped each by itself. A bias is an
    offset to a logit: in nats in every model, and defined up to a constant. So, where the space is mapped, biases are only
    shifted, by what makes the shared tokens' mean that of the anchors. With `omp` a token's logit becomes a combination of
    other tokens' logits, and so does its bias.

    Args:
      rows, shared, anchors: [embedding, bias] or [embedding, bias, projection] of the N tokens, of the S shared tokens, and
        of these in the other space.

    Returns:
      The same of the N tokens in the other space, float32.
    """
    biases_N, shared_biases_S, anchor_biases_S = (tables[1].double() for tables in (rows, shared, anchors))
    rows, shared, anchors = ([embedding, *projection] for embedding, _, *projection in (rows, shared, anchors))
    if method == "omp":
        # One more column of the rows that the biases go with.
        anchors[-1] = torch.cat([anchors[-1].double(), anchor_biases_S[:, None]], 1)
    mapped = [align_rows(method, *tables) for tables in zip(rows, shared, anchors, strict=True)]
    if method == "omp":
        mapped[-1], biases_N = mapped[-1][:, :-1], mapped[-1][:, -1]
    else:
        biases_N = biases_N + (anchor_biases_S.mean() - shared_biases_S.mean())
    return [table.float() for table in (mapped[0], biases_N, *mapped[1:])]


def align_rows(method: str, rows_NG: torch.Tensor, shared_SG: torch.Tensor, anchors_SH: torch.Tensor) -> torch.Tensor:
    """The rows `rows_NG` in the space of the anchors.

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
    """How many shared tokens a method needs for rows of a width.

    A map is determined by more of them than the width; with fewer, `orthogonal` leaves the rest as it is, and the ridge
    of `least_squares` shrinks it. With two of them every penalty has the same cross-validation error.
    """
    return {"orthogonal": 2, "least_squares": 3, "omp": max(2, _atoms(width))}[method]


def _orthogonal(rows_NG: torch.Tensor, shared_SG: torch.Tensor, anchors_SG: torch.Tensor) -> torch.Tensor:
    """By the rotation (or reflection) that takes the shared tokens nearest to the anchors, and one scale.

    argmin_Q |shared Q - anchors|, Q orthogonal, is U V^T of the singular value decomposition of shared^T anchors
    (Schoenemann 1966). Of those that come equally near, where the shared tokens do not span the space, it is the one
    nearest to the identity. The scale makes the shared tokens as long as the anchors, not as near as possible, which
    would make rows the shorter the worse they fit.
    """
    if not shared_SG.any():
        # Equal rows tell nothing but the mean.
        return torch.zeros_like(rows_NG)
    products_GG = shared_SG.T @ anchors_SG
    products_GG += _TOWARDS_IDENTITY * torch.linalg.matrix_norm(products_GG, 2) * torch.eye(len(products_GG))
    u_GG, _, v_GG = torch.linalg.svd(products_GG)
    return rows_NG @ (u_GG @ v_GG) * (anchors_SG.norm() / shared_SG.norm())


def _least_squares(rows_NG: torch.Tensor, shared_SG: torch.Tensor, anchors_SH: torch.Tensor) -> torch.Tensor:
    """By the linear map W that minimises |shared W - anchors|^2 + penalty |W|^2.

    The penalty is the one of `_PENALTIES` with the least generalised cross-validation error (Golub, Heath and Wahba
    1979), |residual|^2 / (S - 1 - degrees of freedom)^2; the mean took one.
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
    """By the few shared tokens whose combination comes nearest to the row: the same combination of their anchors.

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
