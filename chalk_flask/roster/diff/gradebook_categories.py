"""Deletions of categories, which wait until the line items are known: a category in use stays (interpretation W-09)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import orjson

from backends import Snapshot, batched
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.diff.dependents import dependencies, find_dependents
from chalk_flask.roster.diff.external_sort import SortableRecord

__all__ = ["CategoryDeletions"]

BATCH_SIZE = 500


class CategoryDeletions:
    """Categories that a package deletes: by a row, or by their absence from a bulk file (`missing_ids`)."""

    def __init__(self, stored: Snapshot) -> None:
        self.missing_ids: list[str] = []
        self._rows: list[SortableRecord] = []
        self._stored = stored

    def postpone_deletions(self, rows: Iterable[SortableRecord]) -> list[SortableRecord]:
        """Return the rows of active categories; postpone the rows that delete one."""
        active: list[SortableRecord] = []
        for row in rows:
            (active if row[2]["status"] == ACTIVE else self._rows).append(row)
        return active

    def find_used(self, find_kept: Callable[[Sequence[str]], set[str]]) -> set[str]:
        """Return the ids of deleted categories that line items use; `find_kept` selects line items that stay."""
        deleted_ids = {"categories": {*self.missing_ids, *(row[0] for row in self._rows)}}
        references = [reference for reference in dependencies(FILES["lineItems"]) if reference.target == "categories"]
        used: set[str] = set()
        for batch in batched(find_dependents(self._stored, "lineItems", references, deleted_ids), BATCH_SIZE):
            keys = find_kept([dependent.key for dependent in batch])
            used.update(
                orjson.loads(dependent.body)["category"]["sourcedId"] for dependent in batch if dependent.key in keys
            )
        return used

    def rows_without(self, used: set[str]) -> list[SortableRecord]:
        """Return the rows that delete unused categories."""
        return [row for row in self._rows if row[0] not in used]

    def missing_ids_without(self, used: set[str]) -> list[str]:
        """Return the ids of unused categories that are missing from a bulk file."""
        return [key for key in self.missing_ids if key not in used]
