"""Words and their tokens, compared with a separate count."""

from pipeline.student_tokenizers.store import read_tokenizers
from pipeline.student_tokenizers.word_counts import read_words, tokens_of_spans
from schemas.vocabulary import VOCABULARY_FILE, read_vocabulary
from tests.support import world


def test_words_add_up(predictions, text):
    vocabulary = read_vocabulary(str(predictions / VOCABULARY_FILE))
    words = read_words(str(predictions / "_words.parquet"), len(vocabulary)).to_pandas()
    tokenizers = read_tokenizers(str(predictions), vocabulary)
    for name, language in world.TEACHERS.items():
        of_teacher = words[words.teacher == name].set_index("word")
        lines = (text / f"{language}.txt").read_text().splitlines()
        assert of_teacher["count"].sum() == sum(len(line.split()) for line in lines)
        assert of_teacher["count"]["the"] == sum(line.split().count("the") for line in lines)
        assert of_teacher.language.unique().tolist() == [language]
        for word in of_teacher.index[:20]:
            # The small world's teachers segment a word in the same way in any context.
            alone = tokenizers[name](word, add_special_tokens=False)["input_ids"]
            assert of_teacher.ids[word].tolist() == alone and max(alone) < len(vocabulary)


def test_tokens_of_spans():
    tokenizer = world.make_tokenizer("unigram", world.sentences("ru", 100)).backend_tokenizer
    line = " река  учитель,(море) "
    encoding = tokenizer.encode(line, add_special_tokens=False)
    spans = [(1, 5), (7, 15), (15, 21)]
    grouped = tokens_of_spans(line, encoding, spans)
    for (start, end), ids in zip(spans, grouped, strict=True):
        # The letters of a token (for a lone space mark, the next letter) are within the span.
        inside = []
        for token_id, (first, last) in zip(encoding.ids, encoding.offsets, strict=True):
            letters = [i for i in range(first, last) if not line[i].isspace()]
            letters = letters or [i for i in range(last, len(line)) if not line[i].isspace()][:1]
            if any(start <= i < end for i in letters):
                inside.append(token_id)
        assert list(ids) == inside and inside
