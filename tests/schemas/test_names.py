"""Names of languages and teachers are plain file names."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.names import Name, is_name

FIRST = set(string.ascii_letters + string.digits)


@given(st.one_of(st.text(max_size=110), st.text("aZ9_.-/ ", max_size=110)))
def test_a_name_is_letters_digits_and_three_marks(text):
    expected = 1 <= len(text) <= 100 and text[0] in FIRST and set(text) <= FIRST | set("_.-")
    assert is_name(text) == expected


@pytest.mark.parametrize("text", ["", "..", ".hidden", "-option", "a/b", "a\\b", "a\n", "zh Hans", "é", "x" * 101])
def test_what_would_be_a_path_or_an_option_is_refused(text):
    with pytest.raises(ValidationError, match="cannot be a name"):
        TypeAdapter(Name).validate_python(text)
