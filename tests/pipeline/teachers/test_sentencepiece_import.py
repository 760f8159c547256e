"""SentencePiece models without other files, in the layouts of transformers' families, compared with SentencePiece."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from pipeline.teachers.family import SENTENCEPIECE
from tests.support.teachers import CORPUS, load, remapped

ALBERT = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": "[CLS],[SEP],[MASK]"}


# For each layout, the name of the model's file and how SentencePiece is told about the special tokens.
LAYOUTS = {
    "xlm-roberta": ("sentencepiece.bpe.model", {}),
    "camembert": ("sentencepiece.bpe.model", {"user_defined_symbols": "<s>NOTUSED,</s>NOTUSED"}),
    "albert": ("spiece.model", ALBERT),
    "rembert": ("sentencepiece.model", ALBERT),
    "deberta-v2": (
        "spm.model",
        {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]",
         "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
    ),
    "big_bird": (
        "spiece.model",
        {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 100, "control_symbols": "[SEP],[CLS],[MASK]"},
    ),
}  # fmt: skip


@pytest.fixture(
    scope="module",
    params=[
        *((layout, "unigram") for layout in LAYOUTS),
        ("xlm-roberta", "bpe"),
        ("xlm-roberta", "bytes"),
        ("xlm-roberta", "no prefix"),
        ("albert", "bytes"),
    ],
    ids=" ".join,
)
def spm_pair(request, tmp_path_factory):
    """A teacher from a SentencePiece model alone, in one of the layouts, and SentencePiece itself."""
    layout, kind = request.param
    folder = tmp_path_factory.mktemp("spm")
    file, symbols = LAYOUTS[layout]
    SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(folder / "made"),
        vocab_size=500,
        hard_vocab_limit=False,
        model_type="bpe" if kind == "bpe" else "unigram",
        byte_fallback=kind == "bytes",
        add_dummy_prefix=kind != "no prefix",
        minloglevel=2,
        **symbols,
    )
    (folder / "made.model").rename(folder / file)
    (folder / "config.json").write_text(json.dumps({"model_type": layout}))
    if layout == "albert":
        (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "keep_accents": true}')
    return SentencePieceProcessor(model_file=str(folder / file)), load(folder)


@settings(deadline=None, max_examples=50)
@given(text=st.lists(st.sampled_from([word for line in CORPUS[:6] for word in line.split() if word != "1999"] + [""])))
def test_a_sentencepiece_model_alone(spm_pair, text):
    """Ids and text are SentencePiece's own, with fairseq's offset if the layout has one."""
    original, teacher = spm_pair
    assert teacher.family == SENTENCEPIECE
    merged, to_merged = remapped([teacher])[teacher.name]
    line = " ".join(text)
    pieces = original.encode(line)
    known = [piece for piece in pieces if piece != original.unk_id()]
    teacher_ids = [teacher.hf.convert_tokens_to_ids(original.id_to_piece(piece)) for piece in known]
    ids = merged(line, add_special_tokens=False)["input_ids"]
    assert [number for number in ids if number != merged.unk_token_id] == to_merged[teacher_ids].tolist()
    assert merged.decode(to_merged[teacher_ids]) == teacher.hf.decode(teacher_ids) == original.decode(known)
    framed = merged(line)["input_ids"]
    assert merged.decode(framed, skip_special_tokens=True) == merged.decode(
        [number for number in ids if number not in merged.all_special_ids]
    )
    if known == pieces:
        # Encoding the result again gives the same text: only SentencePiece's normalization changes a text.
        assert merged.decode(merged(original.decode(pieces), add_special_tokens=False)["input_ids"]) == original.decode(
            pieces
        )
