"""The random numbers of samples: what they depend on, and that they differ from those of masking."""

import numpy as np

from pipeline.shard.masking import example_keys, uniform
from pipeline.shard.tail_uniforms import tail_uniforms


def test_each_is_a_function_of_the_example_the_position_and_the_samples_number():
    keys, positions = example_keys(5, ["a", "a", "b"]), np.array([3, 4, 3])
    drawn = tail_uniforms(keys, positions, 4)
    assert drawn.shape == (3, 4) and len(np.unique(drawn)) == 12
    for row in range(3):
        assert (tail_uniforms(keys[row : row + 1], positions[row : row + 1], 2) == drawn[row, :2]).all()
    assert (tail_uniforms(example_keys(6, ["a", "a", "b"]), positions, 4) != drawn).all()


def test_they_are_not_those_of_masking():
    keys, position = example_keys(5, ["a"]), np.array([3])
    streams = np.arange(8, dtype=np.uint64) << np.uint64(32)
    of_masking = uniform(keys, position.astype(np.uint64) + streams)
    assert not np.isin(of_masking, tail_uniforms(keys, position, 1000)).any()


def test_they_are_uniform():
    drawn = tail_uniforms(example_keys(0, ["x"] * 500), np.arange(500), 200).ravel()
    counts = np.bincount((drawn * 100).astype(int), minlength=100)
    # Chi-square with 99 degrees of freedom: mean 99, standard deviation 14.
    assert ((counts - 1000) ** 2 / 1000).sum() < 99 + 4 * 14
