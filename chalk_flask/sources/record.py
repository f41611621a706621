"""Stored form of sources. A source is stored in its tenant, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias

import orjson

from backends import Query, Record, Snapshot
from chalk_flask.sources.limits import DEFAULT_PAGE_SIZE

__all__ = ["COLLECTION", "AuthKind", "Source", "find_source", "list_sources"]

COLLECTION: Final = "sources"

AuthKind: TypeAlias = Literal["oauth2", "oauth1", "bearer"]
"""Kind of credential: OAuth 2 client credentials, OAuth 1.0a signatures, or a bearer token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Provider from which a tenant pulls its roster, and the results of the syncs so far. Times are texts in UTC.

    `sealed` is the encrypted secret or token. `full_days` is the number of days after which a sync is full.
    `page_size` is the number of records to request at once. A scheduled source has an interval in `every_seconds`, or a
    time of day in `at` (UTC, `HH:MM`).

    `last_started` is the time at which the last sync was queued or started. `last_success` is the start of the last
    sync that was applied or found nothing to change. `last_full` is that of the last full one of these. `last_result`
    is the state of the last import run. `lacks_demographics` is True if the last success read no demographics. The next
    sync then reads all of them.
    `last_error` says why the last sync failed, at `last_failure`. `failures` is the number of failures in a row.
    """

    name: str
    tenant: str
    url: str
    auth: AuthKind
    created: str
    sealed: str = field(repr=False)
    client_id: str | None = None
    token_url: str | None = None
    full_days: int = 7
    page_size: int = DEFAULT_PAGE_SIZE
    every_seconds: int | None = None
    at: str | None = None
    last_started: str | None = None
    last_success: str | None = None
    last_full: str | None = None
    lacks_demographics: bool = False
    last_run: str | None = None
    last_result: str | None = None
    last_error: str | None = None
    last_failure: str | None = None
    failures: int = 0

    @property
    def is_scheduled(self) -> bool:
        """True if the job worker syncs the source."""
        return self.every_seconds is not None or self.at is not None

    def reads_like(self, other: Source) -> bool:
        """Return True if both read the same provider with the same client."""
        return (self.url, self.auth, self.client_id) == (other.url, other.auth, other.client_id)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object for users, without the secret."""
        return {_camel_case(name): value for name, value in asdict(self).items() if name != "sealed"}

    def to_record(self) -> Record:
        """Return the record of the collection `sources`."""
        return Record(self.name, orjson.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Source:
        """Return the source of a stored object. Members that this version does not know are ignored."""
        return cls(**{name: value for name, value in data.items() if name in _FIELDS})


_FIELDS: Final = frozenset(item.name for item in fields(Source))


def find_source(snapshot: Snapshot, name: str) -> Source | None:
    """Return the source with this name."""
    body = snapshot.get_many(COLLECTION, [name]).get(name) if name else None
    return None if body is None else Source.from_dict(orjson.loads(body))


def list_sources(snapshot: Snapshot) -> list[Source]:
    """Return the sources of a tenant, by name."""
    bodies = orjson.loads(b"[%s]" % snapshot.find(Query(COLLECTION)).body())
    return sorted(map(Source.from_dict, bodies), key=lambda source: source.name)


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))
