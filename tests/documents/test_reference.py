"""docs/configuration.md is up to date with the configurations' fields."""

from docs.reference import REFERENCE, STAGES, reference
from schemas.config import nested_config


def test_it_is_current():
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_it_has_every_field():
    def fields(model):
        for name, field in model.model_fields.items():
            yield name
            if section := nested_config(field.annotation):
                yield from fields(section)

    lines = reference().splitlines()
    for _, model in STAGES.values():
        for name in fields(model):
            assert any(line.startswith(f"| `{name}` | ") for line in lines), name


def test_a_type_is_what_one_writes():
    text = reference()
    assert "| `teachers` | section by name or a path | required |" in text
    assert "| `languages` | values by name or list of text | required |" in text
    assert "| `predictions` | text or list of text | required |" in text
