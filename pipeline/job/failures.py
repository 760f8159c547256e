"""Failed shards: the notes that workers write about them, and how the end of a run handles these notes."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from pipeline.job.finalize import Finished, is_there
from pipeline.shard.written import Written, read_unit_table, unit_table
from pipeline.text.units import FAILED_FOLDER, Unit
from schemas.errors import UserError
from schemas.storage import join, read_bytes, write_bytes

_log = logging.getLogger(__name__)

_SHOWN = 5


@dataclass(frozen=True)
class _Failed:
    """A unit in which something failed.

    Attributes:
      errors: by shard path, or by the name of the text that could not be read.
      table: the written shards (`UNIT_SCHEMA`); None if the unit cannot be used without those that failed.
    """

    errors: dict[str, str]
    table: pa.Table | None


def write_failed(output: str, unit: Unit, errors: Mapping[str, str], there: Iterable[Written] | None) -> None:
    """Writes a note of a unit's failures, and a table of the shards that are `there`: None if its text changed."""
    if there is not None:
        write_bytes(join(output, unit.kept_path), unit_table(there))
    write_bytes(join(output, unit.failed_path), json.dumps(errors, indent=2).encode() + b"\n")


def settle(
    output: str, units: list[Unit], finished: Finished, present: dict[str, int], max_failed: int, mend: str
) -> Finished:
    """Returns all units for the manifest, some without their failed shards, if at most `max_failed` shards failed.

    Args:
      mend: what the user should do about missing units.

    Raises:
      UserError: more shards failed (the error names them), or no worker has processed some units.
    """
    missing = [unit for unit in units if unit not in finished.tables]
    failed = {unit: _read(output, unit, present) for unit in missing if unit.failed_path in present}
    not_done = len(missing) - len(failed)
    errors = [item for of_unit in failed.values() for item in of_unit.errors.items()]
    kept = {unit: of_unit.table for unit, of_unit in failed.items() if of_unit.table is not None}
    if failed and (not_done or len(errors) > max_failed or len(kept) < len(failed)):
        also = f"; {not_done:,} of {len(units):,} units of work are not done" * bool(not_done)
        other = ", or raise max_failed to leave these shards out" * (len(kept) == len(failed))
        raise UserError(f"{_named(output, errors)}{also}. Finished work is kept: correct this, then {mend}{other}")
    if not_done:
        raise UserError(
            f"{output}: {not_done:,} of {len(units):,} units of work are not done, first {missing[0].path}; {mend}"
        )
    if failed:
        _log.warning("left out, because max_failed allows it: %s", _named(output, errors))
    tables = finished.tables | kept
    return Finished(
        {unit: tables[unit] for unit in units}, {unit: len(of_unit.errors) for unit, of_unit in failed.items()}
    )


def _named(output: str, errors: list[tuple[str, str]]) -> str:
    """Returns one line with the first errors and the number of failed shards."""
    listed = "; ".join(f"{shard}: {error}" for shard, error in errors[:_SHOWN])
    more = f"; and {len(errors) - _SHOWN:,} more, see {join(output, FAILED_FOLDER)}" * (len(errors) > _SHOWN)
    return f"{len(errors):,} {'shard' if len(errors) == 1 else 'shards'} failed: {listed}{more}"


def _read(output: str, unit: Unit, present: dict[str, int]) -> _Failed:
    errors = json.loads(read_bytes(join(output, unit.failed_path)))
    table = read_unit_table(read_bytes(join(output, unit.kept_path))) if unit.kept_path in present else None
    return _Failed(errors, table if table is not None and is_there(table, present) else None)
