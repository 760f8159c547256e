"""Token rows in another teacher's space: exact if the spaces differ as the method assumes, and compared with numpy."""

import numpy as np
import pytest
import torch

from tests.support.pursuit import naive_pursuit
from trainer.student.alignment import align_rows, align_tables, shared_needed

WIDTH = 16
# For numbers of about 1 in float32, the dtype of a student's rows.
ROUNDING = 1e-6


def random_rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def rotation(width: int = WIDTH) -> torch.Tensor:
    return torch.linalg.qr(random_rows(9, width, width)).Q


@pytest.mark.parametrize("scale", [1, 0.25])
def test_orthogonal_recovers_a_rotation_a_scale_and_a_shift(scale):
    rows, shared = random_rows(0, 30, WIDTH), random_rows(1, 40, WIDTH)
    shift = random_rows(2, WIDTH)
    mapped = align_rows("orthogonal", rows, shared, scale * shared @ rotation() + shift)
    torch.testing.assert_close(mapped, scale * rows @ rotation() + shift, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("count", [2, 5, WIDTH])
def test_orthogonal_leaves_as_it_is_what_shared_tokens_do_not_tell(count):
    """Within one space rows stay the same, however few tokens are shared; in two, shared tokens and all lengths do."""
    rows, shared = random_rows(0, 30, WIDTH), random_rows(1, count, WIDTH)
    torch.testing.assert_close(align_rows("orthogonal", rows, shared, shared), rows, rtol=0, atol=ROUNDING)
    anchors = shared @ rotation()
    torch.testing.assert_close(align_rows("orthogonal", shared, shared, anchors), anchors, rtol=0, atol=ROUNDING)
    mapped, centred = align_rows("orthogonal", rows, shared, anchors) - anchors.mean(0), rows - shared.mean(0)
    torch.testing.assert_close(mapped @ mapped.T, centred @ centred.T)


def test_orthogonal_keeps_lengths_and_angles_where_spaces_do_not_fit():
    rows, shared, anchors = random_rows(0, 30, WIDTH), random_rows(1, 40, WIDTH), 3 * random_rows(2, 40, WIDTH)
    mapped = align_rows("orthogonal", rows, shared, anchors) - anchors.mean(0)
    centred = rows - shared.mean(0)
    spread = (anchors - anchors.mean(0)).norm() / (shared - shared.mean(0)).norm()
    torch.testing.assert_close(mapped @ mapped.T, spread**2 * centred @ centred.T)


@pytest.mark.parametrize("width", [WIDTH, 8, 24])
def test_least_squares_recovers_an_affine_map(width):
    """This also holds between spaces of different widths."""
    rows, shared = random_rows(0, 30, width), random_rows(1, 60, width)
    linear, shift = random_rows(2, width, WIDTH), random_rows(3, WIDTH)
    mapped = align_rows("least_squares", rows, shared, shared @ linear + shift)
    torch.testing.assert_close(mapped, rows @ linear + shift, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("shared", "noise"), [(60, 0.5), (60, 20.0), (10, 1.0), (17, 1.0)])
def test_least_squares_is_ridge_regression_with_the_penalty_of_least_cross_validation(shared, noise):
    """Compared with the normal equations and the hat matrix for each penalty; also for fewer tokens than dimensions."""
    theirs, rows = random_rows(1, shared, WIDTH).numpy(), random_rows(0, 30, WIDTH).numpy()
    ours = theirs @ random_rows(2, WIDTH, WIDTH).numpy() + noise * random_rows(3, shared, WIDTH).numpy()
    x, y = theirs - theirs.mean(0), ours - ours.mean(0)
    best, actual = np.inf, None
    for penalty in np.logspace(-10, 2, 49) * np.linalg.svd(x)[1][0] ** 2:
        inverse = np.linalg.inv(x.T @ x + penalty * np.eye(WIDTH))
        hat = x @ inverse @ x.T
        error = ((y - hat @ y) ** 2).sum() / (shared - 1 - np.trace(hat)) ** 2
        if error < best:
            best, actual = error, ours.mean(0) + (rows - theirs.mean(0)) @ inverse @ x.T @ y
    mapped = align_rows("least_squares", *map(torch.from_numpy, (rows, theirs, ours)))
    np.testing.assert_allclose(mapped.numpy(), actual, rtol=0, atol=1e-6 * np.abs(actual).max())


def test_least_squares_needs_three_shared_tokens():
    """Of two, minus their mean, one is the other's negative: all penalties have one error, so rounding would choose."""
    assert [shared_needed(method, WIDTH) for method in ("orthogonal", "least_squares", "omp")] == [2, 3, 4]


@pytest.mark.parametrize("method", ["orthogonal", "least_squares"])
def test_of_equal_rows_only_the_mean_is_known(method):
    anchors = random_rows(2, 5, WIDTH)
    mapped = align_rows(method, random_rows(0, 3, WIDTH), torch.full((5, WIDTH), 0.1), anchors)
    torch.testing.assert_close(mapped, anchors.mean(0).expand(3, -1))


@pytest.mark.parametrize("width", [64, 32])
def test_omp_maps_sparse_combinations_exactly(width):
    """This holds for any other space, and for combinations that are affine or around the mean."""
    shared, anchors = random_rows(1, 200, 64), random_rows(2, 200, width)
    rows = torch.stack([0.7 * shared[3] + 0.3 * shared[50], shared.mean(0) + 2 * (shared[9] - shared.mean(0))])
    expected = torch.stack([0.7 * anchors[3] + 0.3 * anchors[50], anchors.mean(0) + 2 * (anchors[9] - anchors.mean(0))])
    assert shared_needed("omp", 64) == 16
    # Around the mean, too, the first row is 0.7 and 0.3 of two atoms.
    torch.testing.assert_close(align_rows("omp", rows, shared, anchors), expected, rtol=0, atol=1e-9)


def test_omp_is_the_naive_one_around_the_means():
    rows, shared, anchors = (random_rows(*of) for of in ((0, 600, 32), (1, 90, 32), (2, 90, WIDTH)))
    mapped = align_rows("omp", rows, shared, anchors)
    mean, our_mean = shared.numpy().mean(0), anchors.numpy().mean(0)
    for number in range(0, 600, 37):
        chosen, weights = naive_pursuit(rows[number].numpy() - mean, shared.numpy() - mean, 8)
        expected = our_mean + weights @ (anchors.numpy()[chosen] - our_mean)
        np.testing.assert_allclose(mapped[number].numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ["orthogonal", "least_squares", "omp"])
def test_a_constant_on_all_rows_or_biases_changes_nothing_but_by_it(method):
    """The constant does not change the teacher's probabilities, so it must not change the mapped rows."""
    rows, shared, anchors = (random_rows(seed, count, WIDTH) for seed, count in ((0, 30), (1, 40), (2, 40)))
    biases = [random_rows(seed, count) for seed, count in ((3, 30), (4, 40), (5, 40))]
    plain = align_tables(method, *([table, bias] for table, bias in zip((rows, shared, anchors), biases, strict=True)))
    moved = align_tables(method, [rows + 2, biases[0] - 7], [shared + 2, biases[1] - 7], [anchors, biases[2]])
    for one, other in zip(plain, moved, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["orthogonal", "least_squares"])
def test_biases_are_shifted_to_the_anchors_mean(method):
    tables = [random_rows(seed, count, WIDTH) for seed, count in ((0, 30), (1, 40), (2, 40))]
    biases = [random_rows(seed, count) for seed, count in ((3, 30), (4, 40), (5, 40))]
    _, actual, projection = align_tables(method, *([t, b, 2 * t] for t, b in zip(tables, biases, strict=True)))
    torch.testing.assert_close(actual.double(), biases[0] - biases[1].mean() + biases[2].mean(), rtol=0, atol=1e-6)
    expected = align_rows(method, *(2 * table for table in tables))
    torch.testing.assert_close(projection.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("untied", [True, False])
def test_with_omp_a_logit_is_the_combination_of_the_anchors_logits(untied):
    """The combination is around the mean of the logits, which include the biases."""
    tables = [random_rows(seed, count, WIDTH) for seed, count in ((0, 30), (1, 40), (2, 40))]
    biases = [random_rows(seed, count) for seed, count in ((3, 30), (4, 40), (5, 40))]
    arguments = [[t, b, t.flip(1)][: 2 + untied] for t, b in zip(tables, biases, strict=True)]
    mapped = align_tables("omp", *arguments)
    theirs, rows = arguments[1][-1 if untied else 0].numpy(), arguments[0][-1 if untied else 0].numpy()
    ours = arguments[2][-1 if untied else 0].numpy()
    hidden = random_rows(7, WIDTH).numpy()
    logits = ours @ hidden + biases[2].numpy()
    actual = (mapped[-1 if untied else 0].double() @ torch.from_numpy(hidden) + mapped[1]).numpy()
    for number, row in enumerate(rows):
        chosen, weights = naive_pursuit(row - theirs.mean(0), theirs - theirs.mean(0), 4)
        expected = logits.mean() + weights @ (logits[chosen] - logits.mean())
        assert actual[number] == pytest.approx(expected, abs=1e-4)
