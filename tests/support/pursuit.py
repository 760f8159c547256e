"""Textbook orthogonal matching pursuit."""

import numpy as np


def naive_pursuit(target: np.ndarray, atoms: np.ndarray, count: int) -> tuple[list[int], np.ndarray]:
    """Approximates one target; solves least squares again for each added atom."""
    chosen, left, weights = [], target, np.zeros(0)
    for _ in range(count):
        cosines = np.abs(atoms @ left) / np.linalg.norm(atoms, axis=1)
        cosines[chosen] = -1
        chosen.append(int(cosines.argmax()))
        weights = np.linalg.lstsq(atoms[chosen].T, target, rcond=None)[0]
        left = target - weights @ atoms[chosen]
    return chosen, weights
