"""Change histories of records as tests compare them."""

from __future__ import annotations

from typing import Any

import orjson

from backends import Backend
from chalk_flask.roster.changes.change_history import PastChange, changes_of


def changes_in(store: Backend, name: str, key: str, start: int | None = None) -> list[PastChange]:
    """Return the stored changes of a record of the tenant `default`, newest first."""
    with store.read("default") as snapshot:
        return list(changes_of(snapshot, name, key, start))


def differences(change: PastChange) -> dict[str, tuple[Any, Any]]:
    """Return the members that differ between the two states of a change, without the timestamp."""
    before, after = (orjson.loads(body or b"{}") for body in (change.before, change.after))
    return {
        name: (before.get(name), after.get(name))
        for name in before | after
        if name != "dateLastModified" and before.get(name) != after.get(name)
    }


def history_bodies(store: Backend, tenant: str = "default") -> list[bytes]:
    """Return the stored blocks of the change history of a tenant."""
    with store.read(tenant) as snapshot:
        return list(snapshot.get_many("history", list(snapshot.keys("history"))).values())
