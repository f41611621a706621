"""Text and JSON of sources, as `chalk-flask source` prints them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chalk_flask.cli.table import format_table
from chalk_flask.times import format_timestamp

if TYPE_CHECKING:
    from chalk_flask.sources import Source

__all__ = ["source_details", "source_table", "source_to_dict"]


def source_table(records: Sequence[Source]) -> str:
    """Return the table of the command `list`."""
    if not records:
        return "There are no sources. Add one with `chalk-flask source add`."
    rows = [
        (
            record.name,
            record.auth,
            _next_sync(record) or "-",
            record.last_success or "never",
            record.last_result or "-",
            record.last_error or "-",
        )
        for record in records
    ]
    return format_table(("NAME", "AUTH", "NEXT SYNC", "LAST SUCCESS", "RESULT", "LAST ERROR"), rows)


def _next_sync(source: Source) -> str | None:
    from chalk_flask.sources import next_sync

    return format_timestamp(next_sync(source))


def source_to_dict(source: Source) -> dict[str, Any]:
    """Return a source as JSON, with its next sync."""
    return source.to_dict() | {"nextSync": _next_sync(source)}


def source_details(source: Source) -> Sequence[tuple[str, object]]:
    """Return the names and values of the command `show`. A value is None if there is none."""
    from chalk_flask.sources.schedule import describe_schedule

    return (
        ("name", source.name),
        ("url", source.url),
        ("auth", source.auth),
        ("client id", source.client_id),
        ("token url", source.token_url),
        ("full after", f"{source.full_days} days"),
        ("page size", f"{source.page_size:,} records"),
        ("schedule", describe_schedule(source)),
        ("next sync", _next_sync(source)),
        ("created", source.created),
        ("last sync", source.last_started or "never"),
        ("last success", source.last_success or "never"),
        ("last full", source.last_full or "never"),
        ("demographics", "not read by the last sync" if source.lacks_demographics else None),
        ("last run", source.last_run),
        ("last result", source.last_result),
        ("last error", source.last_error),
        ("failed at", source.last_failure if source.failures else None),
        ("failures", source.failures or None),
    )
