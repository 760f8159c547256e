"""Token sequences of unequal length, concatenated.

Legend: N sequences, T tokens in total.
"""

from dataclasses import dataclass

import numpy as np

from schemas.ragged import ranges


@dataclass(frozen=True)
class FlatTokens:
    """N sequences of tokens.

    Attributes:
      ids_T: int32, the teacher's token ids.
      lengths_N: int64, sums to T.
      words_T: int64, equal for adjacent tokens of the same word; None unless whole words are masked.
    """

    ids_T: np.ndarray
    lengths_N: np.ndarray
    words_T: np.ndarray | None = None

    @property
    def starts_N(self) -> np.ndarray:
        """int64: where each sequence begins in T."""
        return np.cumsum(self.lengths_N) - self.lengths_N

    def take(self, chosen: np.ndarray) -> "FlatTokens":
        """Returns the sequences with the indices `chosen`, in that order."""
        token_T = ranges(self.starts_N[chosen], self.lengths_N[chosen])
        words_T = None if self.words_T is None else self.words_T[token_T]
        return FlatTokens(self.ids_T[token_T], self.lengths_N[chosen], words_T)

    def repeat(self, times: int) -> "FlatTokens":
        """Returns all sequences in order, repeated as a whole `times` times."""
        words_T = None if self.words_T is None else np.tile(self.words_T, times)
        return FlatTokens(np.tile(self.ids_T, times), np.tile(self.lengths_N, times), words_T)
