"""When one merged vocabulary extends another."""

import numpy as np

from schemas.vocabulary import Vocabulary


def test_extending_is_exact():
    base = Vocabulary(["<pad>", "▁a"], ["pad", "word"], {"t": np.array([0, 1], np.int32)})

    def grown(tokens=("<pad>", "▁a", "▁b"), roles=("pad", "word", "word"), t=(0, 1, -1)):
        return Vocabulary(list(tokens), list(roles), {"t": np.array(t, np.int32), "u": np.array([0, -1, 1], np.int32)})

    assert grown().extends(base) and base.extends(base) and not base.extends(grown())
    for other in (
        grown(tokens=("<pad>", "▁c", "▁b")),
        grown(roles=("pad", "literal", "word")),
        grown(t=(0, 2, -1)),
        grown(t=(0, 1, 2)),
    ):
        assert not other.extends(base)
