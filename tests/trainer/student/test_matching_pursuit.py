"""Orthogonal matching pursuit of many targets, compared with the textbook's for a single target."""

import numpy as np
import pytest
import torch

from tests.support.pursuit import naive_pursuit
from trainer.student.matching_pursuit import matching_pursuit


@pytest.mark.parametrize(("atoms", "width", "count"), [(60, 16, 4), (12, 20, 12), (200, 64, 16)])
def test_it_chooses_and_weighs_as_one_target_at_a_time(atoms, width, count):
    random = np.random.default_rng(0)
    # The lengths differ widely: the cosine must decide, not the product.
    atoms_SG = random.normal(size=(atoms, width)) * np.exp(random.normal(size=(atoms, 1)))
    targets_NG = random.normal(size=(25, width))
    chosen_NK, weights_NK = matching_pursuit(torch.from_numpy(targets_NG), torch.from_numpy(atoms_SG), count)
    for target, chosen, weights in zip(targets_NG, chosen_NK.tolist(), weights_NK.numpy(), strict=True):
        expected, expected_weights = naive_pursuit(target, atoms_SG, count)
        assert chosen == expected
        np.testing.assert_allclose(weights, expected_weights, rtol=1e-8, atol=1e-10)


def test_sparse_combinations_are_met_exactly():
    """The combinations have 3 atoms in 64 dimensions, the pursuit chooses 8: the others get no weight."""
    random = torch.Generator().manual_seed(0)
    atoms_SG = torch.randn(100, 64, generator=random, dtype=torch.float64)
    supports = torch.stack([torch.randperm(100, generator=random)[:3] for _ in range(50)])
    weights = 1 + torch.rand(50, 3, generator=random, dtype=torch.float64)
    targets_NG = torch.einsum("nk,nkg->ng", weights, atoms_SG[supports])
    chosen_NK, weights_NK = matching_pursuit(targets_NG, atoms_SG, 8)
    dense = torch.zeros(50, 100, dtype=torch.float64).scatter_(1, chosen_NK, weights_NK)
    expected = torch.zeros(50, 100, dtype=torch.float64).scatter_(1, supports, weights)
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-10)


def test_what_cannot_be_met_better_gets_no_weight():
    """Targets and atoms of zeros, duplicate atoms, and more atoms than dimensions."""
    atoms_SG = torch.tensor([[0.0, 0, 0], [2, 0, 0], [2, 0, 0], [0, 3, 0], [1, 1, 0]], dtype=torch.float64)
    targets_NG = torch.tensor([[0.0, 0, 0], [1, 0, 0], [4, 0, 5], [0, -6, 1]], dtype=torch.float64)
    chosen_NK, weights_NK = matching_pursuit(targets_NG, atoms_SG, 4)
    dense = torch.zeros(4, 5, dtype=torch.float64).scatter_add_(1, chosen_NK, weights_NK)
    expected = torch.tensor(
        [[0, 0, 0, 0, 0], [0, 0.5, 0, 0, 0], [0, 2, 0, 0, 0], [0, 0, 0, -2, 0]], dtype=torch.float64
    )
    torch.testing.assert_close(dense, expected)
