"""The base class of all records in a manifest."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, lt=2**63)]


class Record(BaseModel):
    """Part of a manifest. Its source is untrusted: values of the wrong type are refused, not converted.

    A field that was added later has a default that is not written (`exclude_if`), so that older manifests and runs keep
    their sha256.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
