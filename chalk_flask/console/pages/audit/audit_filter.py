"""Filter of the audit log: time, event, and the id of a person, a credential or an object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from flask import request
from werkzeug.datastructures import MultiDict

from chalk_flask.audit.events import EVENTS
from chalk_flask.audit.latest import READ, read_latest
from chalk_flask.console.context import current
from chalk_flask.console.widgets.encrypted_search import MAX_SEARCH_LENGTH, decrypt_search, encrypt_search
from chalk_flask.tenants.store import TenantStore

__all__ = ["CHANGES", "AuditFilter", "event_choices", "event_label"]

CHANGES = "changes"
"""Choice of all entries except reads."""

ID_MEMBERS = ("by", "administrator", "client", "id", "run", "record", "event_id", "job")
"""Members of an entry that contain an id."""

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z")
_MAX_DATE = date(9999, 12, 30)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Filter as the administrator entered it. `error` says why it is invalid, "" if it is valid.

    `event` is CHANGES, "" for all entries, or a name. `all_tenants` includes the entries of all tenants and those of
    the service itself; only operators can choose it. `before` is the time at which the page begins.
    """

    first_day: str = ""
    last_day: str = ""
    event: str = CHANGES
    id: str = ""
    all_tenants: bool = False
    before: str = ""
    error: str = ""

    @classmethod
    def parse(cls, args: MultiDict[str, str], object_id: str) -> AuditFilter:
        """Return the filter that the parameters of a URL or of a form describe, with the id that was typed."""
        before = args.get("before", "")
        values: dict[str, Any] = {
            "first_day": args.get("from", ""),
            "last_day": args.get("to", ""),
            "event": args.get("event", CHANGES),
            "id": object_id.strip()[:MAX_SEARCH_LENGTH],
            "all_tenants": args.get("tenants") == "all" and current().administrator.is_operator,
            "before": before if _TIME.fullmatch(before) else "",
        }
        return cls(**values, error=_find_error(values))

    @classmethod
    def of_url(cls) -> AuditFilter:
        """Return the filter that the current URL describes. Raises BadRequest for an id of another tenant."""
        return cls.parse(request.args, decrypt_search().get("id", ""))

    def entries(self, *, with_reads: bool = True) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """Yield the time of each entry within the time limits, with the entry, or None if it does not match.

        The newest entry is first. The caller limits the number of examined entries. Raises StorageError and OSError.
        """
        console = current()
        store, tenant = console.services.store, console.tenant
        tenants = [each.name for each in TenantStore(store).list()] if self.all_tenants else [tenant]
        found = read_latest(
            store,
            Path(console.services.settings.data).absolute() / "reads",
            tenants,
            since=_begin_of(self.first_day),
            until=self._until(),
            event="" if self.event == CHANGES else self.event,
            with_reads=with_reads and self.event != CHANGES,
        )
        is_in_tenant = None if self.all_tenants else tenant
        return ((entry["time"], entry if self._matches(entry, is_in_tenant) else None) for entry in found)

    def params(self) -> dict[str, str | None]:
        """Return the parameters of the URL without the place of the page. None stands for no parameter.

        An invalid filter has none, so that a URL contains no text that was typed.
        """
        if self.error:
            return {}
        return {
            "from": self.first_day or None,
            "to": self.last_day or None,
            "event": self.event,
            "tenants": "all" if self.all_tenants else None,
            "search": encrypt_search(id=self.id),
        }

    def _until(self) -> str:
        end = _begin_of((date.fromisoformat(self.last_day) + timedelta(days=1)).isoformat()) if self.last_day else ""
        return min(filter(None, [end, self.before]), default="")

    def _matches(self, entry: Mapping[str, Any], tenant: str | None) -> bool:
        # The entry that counts dropped lines has no tenant. It concerns every tenant.
        if tenant is not None and entry.get("tenant", tenant) != tenant:
            return False
        return not self.id or any(entry.get(name) == self.id for name in ID_MEMBERS)


def event_choices() -> list[tuple[str, str]]:
    """Return the values and labels of the choices of an event."""
    named = sorted((name, event_label(name)) for name in EVENTS)
    return [(CHANGES, "Changes and sign-ins"), ("", "Everything"), (READ, "Reads of the API"), *named]


def event_label(name: str) -> str:
    """Return an event in words: `Token created` for `token.created`."""
    if name == READ:
        return "Read of the API"
    return name.replace(".", " ").replace("_", " ").replace("sign in", "sign-in").capitalize()


def _find_error(values: Mapping[str, Any]) -> str:
    for day in (values["first_day"], values["last_day"]):
        if day and not _is_date(day):
            return "Enter days as year, month and day, for example 2026-01-31."
    if values["event"] not in {CHANGES, "", READ, *EVENTS}:
        return f"Unknown event {values['event'][:80]!r}. Choose an event from the list."
    return ""


def _is_date(text: str) -> bool:
    try:
        return len(text) == 10 and date.fromisoformat(text) <= _MAX_DATE
    except ValueError:
        return False


def _begin_of(day: str) -> str:
    """Return the time at which a day begins, as `format_precise_timestamp` returns it; "" for no day."""
    return f"{day}T00:00:00.000000Z" if day else ""
