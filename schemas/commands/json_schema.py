"""`mergedistill schema NAME`: the JSON schema of a configuration, with which editors complete and check it.

The same text is stored beside the configuration's code (`pipeline/config.schema.json` and the like). The first line of
a YAML file refers to it: `# yaml-language-server: $schema=PATH`.
"""

import json
from importlib import import_module
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from schemas.cli import command_parser
from schemas.errors import UserError
from schemas.process import exit_code_of

# Module names, because this package imports neither stage.
MODELS = {
    "pipeline": ("pipeline.config", "PipelineConfig"),
    "trainer": ("trainer.config", "TrainerConfig"),
    "evaluation": ("trainer.evaluation.config", "EvaluationConfig"),
}


class _Untitled(GenerateJsonSchema):
    """Leaves out the titles of fields, which only repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(model: type[BaseModel]) -> str:
    """Returns the JSON schema, as text, of the YAML files that `load_config` reads into `model`."""
    dialect = {"$schema": GenerateJsonSchema.schema_dialect}
    content = dialect | model.model_json_schema(schema_generator=_Untitled)
    return json.dumps(content, indent=2, ensure_ascii=False)


def main(arguments: list[str], prog: str = "mergedistill schema") -> int:
    """Prints the schema; returns the exit code (0 done, 2 bad input)."""
    parser = command_parser(prog, "Print the JSON schema of a configuration, for editors.")
    parser.add_argument("name", choices=MODELS, help="the configuration to describe")
    options = parser.parse_args(arguments)
    return exit_code_of(lambda: _run(options.name))


def _run(name: str) -> None:
    module, model = MODELS[name]
    try:
        config = import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{name}: is not installed here ({error})") from None
    print(json_schema(getattr(config, model)))
