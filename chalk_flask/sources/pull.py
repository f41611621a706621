"""Pull: all collections of a provider are read and written to a package."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from backends import Closeable
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports import OnProgress
from chalk_flask.sources.client.authorization import Authorizer, BearerAuthorizer, OAuth1Authorizer, OAuth2Authorizer
from chalk_flask.sources.client.http_client import HttpClient
from chalk_flask.sources.client.provider import FilterRejectedError, Provider
from chalk_flask.sources.collection_reader import CollectionReader
from chalk_flask.sources.errors import StatusError
from chalk_flask.sources.limits import PART_SUFFIX, SourceLimits
from chalk_flask.sources.package_writer import write_package
from chalk_flask.sources.record import Source
from chalk_flask.sources.record_spool import RecordSpool
from chalk_flask.sources.rows import RowConverter

__all__ = ["REQUIRED_COLLECTIONS", "Pull", "PulledPackage"]

log = logging.getLogger(__name__)

REQUIRED_COLLECTIONS: Final = ("enrollments", "users", "classes", "courses", "academicSessions", "orgs")
"""Collections that every provider must have, in the order of reading: records before those that they refer to.

So a record that is added meanwhile cannot refer to one that was not read.
"""
OPTIONAL_COLLECTION: Final = "demographics"
"""Collection that is read if the tenant has opted in, and that a provider may lack."""
MISSING_STATUSES: Final = (403, 404, 501)
NO_OPT_IN_NOTE: Final = "Demographics were not read, because the tenant has not opted in to them."


@dataclass(frozen=True, slots=True)
class PulledPackage:
    """Package with the records of a provider.

    `is_full` is True if it has all records. `lacks_demographics` is True if they were not read, and `notes` say why.
    """

    path: Path
    is_full: bool
    lacks_demographics: bool
    notes: Sequence[str]


class Pull(Closeable):
    """Reading of a provider for one sync, with temporary files in `folder`. `max_bytes` limits each collection."""

    def __init__(
        self,
        source: Source,
        secret: str,
        limits: SourceLimits,
        sleep: Callable[[float], None],
        folder: Path,
        max_bytes: int,
        on_progress: OnProgress | None,
        *,
        with_demographics: bool,
    ) -> None:
        self._source, self._folder, self._max_bytes = source, folder, max_bytes
        self._with_demographics, self._spool_count = with_demographics, 0
        self._note = NO_OPT_IN_NOTE
        self._client = HttpClient(limits, sleep)
        authorizer = _make_authorizer(source, secret, self._client, with_demographics=with_demographics)
        provider = Provider(self._client, source.url, authorizer, source.page_size)
        self._reader = CollectionReader(provider, limits.max_readings, on_progress)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def write_package(self, since: str | None) -> PulledPackage:
        """Read the provider and write a package.

        With `since`, it has the changes since this timestamp, unless the provider rejects the filter.

        Raises SourceError and OSError.
        """
        try:
            spools, is_delta = self._read_all(since), since is not None
        except FilterRejectedError as error:
            log.info("the source %s of tenant %s is read in full: %s", self._source.name, self._source.tenant, error)
            spools, is_delta = self._read_all(None), False
        path = self._folder / f"package{PART_SUFFIX}"
        try:
            write_package(path, spools, is_delta=is_delta, system=self._source.name)
        finally:
            _close_all(spools)
        lacks_demographics = OPTIONAL_COLLECTION not in spools
        return PulledPackage(path, not is_delta, lacks_demographics, [self._note] if lacks_demographics else [])

    def _read_all(self, since: str | None) -> Mapping[str, RecordSpool]:
        spools: dict[str, RecordSpool] = {}
        try:
            if self._with_demographics:
                self._read_demographics(spools, since)
            for name in REQUIRED_COLLECTIONS:
                spools[name] = self._read(FILES[name], since, is_delta=since is not None)
        except BaseException:
            _close_all(spools)
            raise
        return spools

    def _read_demographics(self, spools: dict[str, RecordSpool], since: str | None) -> None:
        """Read the demographics, all of them if the last sync could not read them.

        Notes that the provider does not have them, or does not allow to read them.
        """
        start = None if self._source.lacks_demographics else since
        resource_type = FILES[OPTIONAL_COLLECTION]
        try:
            spools[OPTIONAL_COLLECTION] = self._read(resource_type, start, is_delta=since is not None)
        except StatusError as error:
            if error.status not in MISSING_STATUSES:
                raise
            self._note = (
                f"Demographics were not read, because the provider does not have them, or does not allow to read them"
                f" (status {error.status}). Stored ones stay as they are."
            )

    def _read(self, resource_type: ResourceType, since: str | None, *, is_delta: bool) -> RecordSpool:
        return self._reader.read(resource_type, since, partial(self._new_spool, resource_type, is_delta))

    def _new_spool(self, resource_type: ResourceType, is_delta: bool) -> RecordSpool:
        self._spool_count += 1
        path = self._folder / f"{self._spool_count}{PART_SUFFIX}"
        converter = RowConverter(resource_type, is_delta=is_delta)
        return RecordSpool(path, converter, self._max_bytes, keeps_deleted=is_delta)


def _close_all(spools: Mapping[str, RecordSpool]) -> None:
    for spool in spools.values():
        spool.close()


def _make_authorizer(source: Source, secret: str, client: HttpClient, *, with_demographics: bool) -> Authorizer:
    if source.auth == "bearer":
        return BearerAuthorizer(secret)
    assert source.client_id is not None
    if source.auth == "oauth1":
        return OAuth1Authorizer(source.client_id, secret)
    assert source.token_url is not None
    return OAuth2Authorizer(client, source.token_url, source.client_id, secret, with_demographics=with_demographics)
