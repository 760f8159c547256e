"""The random numbers from which samples of the tail are drawn.

Legend: M masked positions, S tail samples.
"""

import numpy as np

from pipeline.shard.masking import uniform

# A counter has the position in its low 32 bits, and above them the sample's number plus this; masking uses lower ones.
_FIRST_STREAM = 2**10


def tail_uniforms(keys_M: np.ndarray, positions_M: np.ndarray, samples: int) -> np.ndarray:
    """Returns float64 [M, S] in [0, 1): a function of the example's key, the position in it and the sample's number.

    Args:
      keys_M: uint64, of each position's example (`pipeline.shard.masking.example_keys`).
      positions_M: integers.
    """
    streams_S = np.arange(_FIRST_STREAM, _FIRST_STREAM + samples, dtype=np.uint64) << np.uint64(32)
    return uniform(keys_M[:, None], positions_M[:, None].astype(np.uint64) + streams_S)
