"""Made-up measurements of candidates for teachers."""

import numpy as np

from trainer.evaluation.comparison.ranking import Measured
from trainer.evaluation.tasks.task import Ratio


def measured(
    name: str,
    worse: float = 0.0,
    unknown: float = 0.0,
    operations: float = 100.0,
    records: int = 200,
    pairs: float = 0.0,
    spread: float = 0.03,
    changed: float = 0.0,
) -> Measured:
    """Returns a candidate's scores, on the same records for any name: about 2 + `worse` bits per character.

    Args:
      pairs: the share of minimal pairs that it decides correctly; 0 leaves them out.
      spread: the random variation of bits per character between records.
    """
    generator = np.random.default_rng(0)
    characters_U = generator.integers(20, 200, records).astype(float)
    difficulty_U = generator.normal(2, 0.5, records)
    noise_U = np.random.default_rng(round(1000 * abs(worse))).normal(0, spread, records)
    words_U = np.round(characters_U / 6)
    ratios = {
        "bits_per_character": Ratio((difficulty_U + worse + noise_U) * characters_U, characters_U),
        "tokens_per_word": Ratio(words_U * (1.5 + worse), words_U),
        "whole_words": Ratio(np.round(words_U * 0.6), words_U),
        "unknown_rate": Ratio(characters_U * unknown, characters_U),
        "tail_mass": Ratio(words_U * 0.3, words_U),
    }
    if pairs:
        ratios["minimal_pairs"] = Ratio((np.arange(records) < pairs * records).astype(float), np.ones(records))
    return Measured(
        name, ratios, {"tokens_per_second": 1000.0, "operations_per_byte": operations, "changed_characters": changed}
    )
