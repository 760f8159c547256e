"""SentencePiece's compiled table of characters."""

from tokenizers import normalizers

from pipeline.student_tokenizers.charsmap import compile_charsmap


def test_charsmap_is_what_the_table_says():
    table = {"Ж": "ж", "ﬁ": "fi", "\u200d": "", "，": ","}
    compiled = normalizers.Precompiled(compile_charsmap(table))
    text = "ЖЖж ﬁx a\u200db，c Æ"
    assert compiled.normalize_str(text) == "".join(table.get(character, character) for character in text)
