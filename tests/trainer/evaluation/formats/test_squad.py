"""SQuAD's JSON."""

import json
from pathlib import Path

import pytest

from schemas.errors import UserError
from trainer.evaluation.formats.squad import Question, read_questions

CONTEXT = "The river is long. 😀 The sea is wide."


def write(tmp_path, *questions: dict) -> str:
    content = {
        "version": "v2.0",
        "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": list(questions)}]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    return str(tmp_path / "a.json")


def asked(start: int, text: str, **others) -> dict:
    return {"id": "q1", "question": "What?", "answers": [{"text": text, "answer_start": start}]} | others


def test_questions_of_both_versions_are_read(tmp_path):
    start = CONTEXT.index("sea")
    file = write(
        tmp_path,
        asked(start, "sea"),
        {"id": 2, "question": "Who?", "answers": [], "is_impossible": True, "plausible_answers": [{}]},
    )
    assert read_questions([file]) == [Question("What?", CONTEXT, [(start, "sea")]), Question("Who?", CONTEXT, [])]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (asked(5, "sea"), "question q1: the context has 'ive' at answer_start 5, not the answer 'sea'"),
        (asked(-3, "wide"), "at answer_start -3, not the answer"),
        (asked(0, ""), "at answer_start 0, not the answer ''"),
        ({"id": "q1", "question": "What?", "answers": []}, "question q1: has no answers"),
        ({"id": "q1"}, r"data\.0\.paragraphs\.0\.qas\.0\.question: Field required"),
    ],
)
def test_a_fault_is_named_with_its_question(tmp_path, question, message):
    with pytest.raises(UserError, match=message):
        read_questions([write(tmp_path, question)])


def test_misplaced_answers_for_training_are_left_out(tmp_path, caplog):
    right, wrong = {"text": "sea", "answer_start": CONTEXT.index("sea")}, {"text": "sea", "answer_start": 5}
    both, one, none = (asked(0, "", answers=answers) for answers in ([wrong, right], [wrong], [right]))
    impossible = {"question": "Who?", "is_impossible": True}
    known = Question("What?", CONTEXT, [(right["answer_start"], "sea")])
    file = write(tmp_path, both, one, none, impossible)
    assert read_questions([file], leave_out=True) == [known, known, Question("Who?", CONTEXT, [])]
    (line,) = caplog.messages
    assert "a.json: 2 answers are left out of the training; first: question q1: the context has" in line
    with pytest.raises(UserError, match="question q1: the context has"):
        read_questions([write(tmp_path, one)], leave_out=True)


@pytest.mark.parametrize("leave_out", [False, True])
@pytest.mark.parametrize("field", ["question", "context"])
def test_half_a_character_is_refused(tmp_path, field, leave_out):
    file = Path(write(tmp_path, asked(0, "The", question="What? 😀")))
    whole = file.read_text()
    assert len(read_questions([str(file)])) == 1
    file.write_text(whole.replace(f'"{field}": "', f'"{field}": "\\ude00 '))
    message = rf"a\.json: question q1: its {field} has half a character, '\\ude00', at character 0; write"
    with pytest.raises(UserError, match=message):
        read_questions([str(file)], leave_out=leave_out)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[]", "the file: "), ('{"data": []}', "has no questions"), ("[" * 99_999, "is not JSON")],
)
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_questions([str(tmp_path / "a.json")])
