"""What all records of a manifest have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, lt=2**63)]


class Record(BaseModel):
    """Part of a manifest. It may come from anywhere: values of other types are refused, not converted.

    A field that was added later has a default that is not written (`exclude_if`), so that the manifests and runs from before
    keep their sha256.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
