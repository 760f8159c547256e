"""The families of tokenizers, by how they write tokens, and the marks that they use."""

WORDPIECE, SENTENCEPIECE, BYTE_LEVEL = "wordpiece", "sentencepiece", "byte-level"
WORD_END, WORD_LEVEL, CHARACTERS = "word-end", "word-level", "characters"
SPACE_MARK, WORD_END_MARK = "▁", "</w>"
