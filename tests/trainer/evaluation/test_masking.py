"""Which tokens are masked."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from tests.support import world
from tests.support.labelled import make_student
from trainer.evaluation.masking import chosen, mask_text, questions

RECORDS = [*world.sentences("en", 30), "x", "the river " * 40, "[MASK] <mask>"]


@pytest.fixture(params=world.TEACHERS)
def tokenizer(request, teachers):
    return AutoTokenizer.from_pretrained(teachers / request.param)


def test_masked_text_is_the_text_when_labels_are_put_back(tokenizer):
    masked = mask_text(RECORDS, tokenizer, 24)
    assert masked.lengths_N.sum() == len(masked.ids_T) and masked.lengths_N.max() <= 24
    assert (masked.ids_T[masked.targets_M] == tokenizer.mask_token_id).all()
    restored = masked.ids_T.copy()
    restored[masked.targets_M] = masked.labels_M
    ends = np.cumsum(masked.lengths_N)
    sequences = [ids.tolist() for ids in np.split(restored, ends[:-1])]
    record_N = [
        masked.record_M[masked.targets_M >= end - length][0] for end, length in zip(ends, masked.lengths_N, strict=True)
    ]
    assert all(
        ((masked.targets_M >= end - length) & (masked.targets_M < end)).any()
        for end, length in zip(ends, masked.lengths_N, strict=True)
    )
    for number, record in enumerate(RECORDS[:-1]):
        plain = tokenizer(record, add_special_tokens=False)["input_ids"]
        mine = [sequence[1:-1] for sequence, of in zip(sequences, record_N, strict=True) if of == number]
        if len(plain) <= 22:
            assert mine in ([plain], [])
        else:
            text = " ".join(map(str, plain))
            assert mine and all(" ".join(map(str, sequence)) in text for sequence in mine)


def test_15_percent_of_the_ordinary_tokens_are_masked_and_at_least_one(tokenizer):
    masked = mask_text(RECORDS, tokenizer, 24)
    counts = np.bincount(masked.record_M, minlength=len(RECORDS))
    for number, record in enumerate(RECORDS):
        ids = tokenizer(record, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        ordinary = sum(token not in tokenizer.all_special_ids for token in ids)
        assert counts[number] == (max(1, round(0.15 * ordinary)) if ordinary else 0)
    assert not np.isin(masked.labels_M, tokenizer.all_special_ids).any()


def test_the_same_segmentation_gives_the_same_places():
    """This holds whether or not tokens include the white space before them."""
    text = "the river sings a song of the sea and the house"
    begins = np.array([0, *(index + 1 for index, character in enumerate(text) if character == " ")])
    with_space = np.maximum(begins - 1, 0)
    assert (chosen(3, text, begins) == chosen(3, text, with_space)).all()
    assert len({tuple(chosen(record, text, begins)) for record in range(20)}) > 5


def test_other_segmentations_share_places():
    """A tokenizer that also splits within words masks mostly the same words, far more than by chance."""
    text = " ".join(f"{number:04d}" for number in range(1000))
    words = np.arange(0, len(text), 5)
    halves = np.sort(np.concatenate([words, words + 2]))
    coarse, fine = set(words[chosen(0, text, words)]), set(halves[chosen(0, text, halves)])
    assert len(coarse & fine) / len(coarse) > 0.9


def test_nothing_to_mask(teachers):
    tokenizer = AutoTokenizer.from_pretrained(teachers / "en-wordpiece")
    masked = mask_text(["東京", ""], tokenizer, 24)
    assert not len(masked.ids_T) and not len(masked.labels_M) and not len(masked.lengths_N)


def test_questions_are_equal_where_the_same_tokens_are_asked_for(teachers, tmp_path):
    """A student's ids differ from its teacher's; another teacher masks as many tokens of short records."""
    student = AutoTokenizer.from_pretrained(make_student(tmp_path, teachers) / "tokenizers" / "en")
    tokenizers = [student, *(AutoTokenizer.from_pretrained(teachers / name) for name in ("en-wordpiece", "hi-bpe"))]
    records = [f"the {word}" for word in ("river", "teacher", "house")]
    masked = [mask_text(records, tokenizer, 24) for tokenizer in tokenizers]
    assert [text.record_M.tolist() for text in masked] == [[0, 1, 2]] * 3
    of_student, of_teacher, of_other = map(questions, masked, [records] * 3, tokenizers)
    assert of_student == of_teacher != of_other
    assert questions(mask_text(records[::-1], student, 24), records[::-1], student) != of_student
