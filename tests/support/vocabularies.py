"""Made-up teachers and merged vocabularies, with only the parts that merging reads."""

from dataclasses import dataclass, field

from hypothesis import strategies as st

from pipeline.teachers.family import BYTE_LEVEL, SENTENCEPIECE, WORDPIECE
from pipeline.vocabulary.identity import byte_alphabet
from tests.support import world


@dataclass
class Teacher:
    """The parts of a `TeacherTokenizer` that merging reads."""

    name: str
    family: str
    tokens: dict[int, str]
    roles: dict[str, int]
    added: frozenset = field(default_factory=frozenset)


SPECIALS = {WORDPIECE: world.BERT_SPECIALS, SENTENCEPIECE: world.ROBERTA_SPECIALS, BYTE_LEVEL: world.ROBERTA_SPECIALS}
ROLES = {
    "[PAD]": "pad", "[UNK]": "unknown", "[CLS]": "start", "[SEP]": "end", "[MASK]": "mask",
    "<pad>": "pad", "<unk>": "unknown", "<s>": "start", "</s>": "end", "<mask>": "mask",
}  # fmt: skip
text = st.text(alphabet="ab,(我é▁ -#<0xE6>[]", min_size=1, max_size=5)
bytes_written = st.text(alphabet=sorted(byte_alphabet()), min_size=1, max_size=4)
strings = {
    WORDPIECE: st.one_of(text, text.map("##".__add__)),
    SENTENCEPIECE: st.one_of(text, text.map("▁".__add__), st.sampled_from(["<0x41>", "<0xE6>", "A"])),
    BYTE_LEVEL: st.one_of(bytes_written, bytes_written.map("Ġ".__add__)),
}


@st.composite
def teacher_lists(draw):
    teachers = []
    for number in range(draw(st.integers(1, 4))):
        family = draw(st.sampled_from(list(strings)))
        drawn = draw(st.lists(strings[family], unique=True, max_size=25))
        tokens = [*SPECIALS[family], *(token for token in drawn if token not in ROLES)]
        # With gaps, as in vocabularies whose embedding was padded or pruned.
        ids = sorted(draw(st.sets(st.integers(0, 60), min_size=len(tokens), max_size=len(tokens))))
        by_id = dict(zip(ids, tokens, strict=True))
        teachers.append(
            Teacher(
                f"t{number}",
                family,
                by_id,
                {ROLES[token]: token_id for token_id, token in by_id.items() if token in ROLES},
            )
        )
    return teachers
