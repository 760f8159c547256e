"""Orthogonal matching pursuit for many targets at once.

Legend: N targets, S atoms, G their width, K atoms chosen for each target, C candidates.
"""

import torch

# The number of candidates that float32 selects, and among which float64 decides.
_CANDIDATES = 4
# Relative sizes below which the remainder of a target, or of an atom, is rounding.
_NOTHING_LEFT, _DEPENDENT = 1e-12, 1e-6


def matching_pursuit(targets_NG: torch.Tensor, atoms_SG: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Approximates targets by sparse combinations of atoms (Pati, Rezaiifar and Krishnaprasad 1993).

    For each target, `count` times: choose the atom with the greatest |cosine| to the remainder of the target, then take
    the combination of all chosen atoms that is nearest to the target (least squares). Among equal atoms the first is
    chosen.

    The time is that of one N x G by G x S product in float32 for each of the `count` atoms: 2 N S G K operations. A
    product in float32 selects a few candidates and float64 chooses among them, so that rounding, which depends on the
    number of threads, does not decide.

    Args:
      targets_NG, atoms_SG: float64; `count` is at most S.

    Returns:
      (chosen_NK, weights_NK): the chosen atoms, int64, and their weights, float64. A target that fewer
        atoms represent exactly has weights of 0.
    """
    lengths_S = atoms_SG.norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
    units_SG = atoms_SG / lengths_S[:, None]
    rough_GS = units_SG.float().T.contiguous()
    size, width = targets_NG.shape
    chosen_NK = torch.zeros(size, count, dtype=torch.long)
    # An orthonormal basis of the chosen atoms, and the atoms in this basis: columns of an upper triangular matrix.
    basis_NKG = targets_NG.new_zeros(size, count, width)
    triangle_NKK = torch.eye(count, dtype=torch.float64).repeat(size, 1, 1)
    along_NK = targets_NG.new_zeros(size, count)
    left_NG = targets_NG.clone()
    negligible_N = _NOTHING_LEFT * targets_NG.norm(dim=1)
    for step in range(count):
        best_N = _nearest(left_NG, units_SG, rough_GS, chosen_NK[:, :step])
        direction_NG, earlier_NjG = units_SG[best_N], basis_NKG[:, :step]
        overlaps_Nj = targets_NG.new_zeros(size, step)
        # Twice, because the first pass leaves rounding errors.
        for _ in range(2):
            overlap_Nj = torch.einsum("njg,ng->nj", earlier_NjG, direction_NG)
            direction_NG = direction_NG - torch.einsum("nj,njg->ng", overlap_Nj, earlier_NjG)
            overlaps_Nj += overlap_Nj
        norm_N = direction_NG.norm(dim=1)
        is_of_use_N1 = ((norm_N > _DEPENDENT) & (left_NG.norm(dim=1) > negligible_N))[:, None]
        # An atom of no use gets weight 0: no component along it, and none of it along others.
        basis_NKG[:, step] = torch.where(is_of_use_N1, direction_NG / norm_N[:, None], 0)
        triangle_NKK[:, :step, step] = torch.where(is_of_use_N1, overlaps_Nj, 0)
        triangle_NKK[:, step, step] = torch.where(is_of_use_N1[:, 0], norm_N, 1)
        along_NK[:, step] = (basis_NKG[:, step] * left_NG).sum(1)
        left_NG -= along_NK[:, step, None] * basis_NKG[:, step]
        chosen_NK[:, step] = best_N
    weights_NK = torch.linalg.solve_triangular(triangle_NKK, along_NK[:, :, None], upper=True)[:, :, 0]
    return chosen_NK, weights_NK / lengths_S[chosen_NK]


def _nearest(
    left_NG: torch.Tensor, units_SG: torch.Tensor, rough_GS: torch.Tensor, chosen_Nj: torch.Tensor
) -> torch.Tensor:
    """The atom with the greatest |cosine| among those not chosen yet: int64 [N]."""
    rough_NS = (left_NG.float() @ rough_GS).abs_().scatter_(1, chosen_Nj, -1)
    rough_NC, candidates_NC = rough_NS.topk(min(_CANDIDATES, len(units_SG)), dim=1)
    cosines_NC = torch.einsum("ng,ncg->nc", left_NG, units_SG[candidates_NC]).abs_()
    cosines_NC.masked_fill_(rough_NC < 0, -1)
    # Sort candidates by atom, so that argmax takes the first of equal atoms.
    candidates_NC, order_NC = candidates_NC.sort(dim=1)
    best_N1 = cosines_NC.gather(1, order_NC).argmax(dim=1, keepdim=True)
    return candidates_NC.gather(1, best_N1)[:, 0]
