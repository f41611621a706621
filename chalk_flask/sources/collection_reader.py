"""Reader of a whole collection, page by page, that detects records which move between pages meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.roster.imports import OnProgress
from chalk_flask.sources.client.provider import Page, Provider, offset_of
from chalk_flask.sources.errors import ChangedWhileReadError, SourceError
from chalk_flask.sources.record_spool import RecordSpool

__all__ = ["CollectionReader", "NewSpool"]

log = logging.getLogger(__name__)

NewSpool: TypeAlias = Callable[[], RecordSpool]
"""Function that returns an empty spool."""

OVERLAP: Final = 1
"""Number of records that a page repeats of the one before. If they differ, the collection changed meanwhile."""


class CollectionReader:
    """Reader of collections of a provider. `max_readings` limits the readings of one that changes meanwhile.

    `on_progress` is called with the phase and the number of records after each page.
    """

    def __init__(self, provider: Provider, max_readings: int, on_progress: OnProgress | None) -> None:
        self._provider, self._max_readings, self._on_progress = provider, max_readings, on_progress

    def read(self, resource_type: ResourceType, since: str | None, new_spool: NewSpool) -> RecordSpool:
        """Return the records of a collection, with `since` those that changed since this timestamp.

        A reading counts if nothing shows that the collection changed meanwhile, or if the next one finds the same
        records. Raises ChangedWhileReadError after `max_readings`, and the errors of `Provider.read_page`.
        """
        former: tuple[bytes, int | None] | None = None
        for _ in range(self._max_readings):
            spool = new_spool()
            try:
                reading = self._read_once(resource_type, since, spool)
                result = (spool.digest(), reading.last_total)
                if reading.is_plausible or result == former:
                    self._log_wrong_total(resource_type, reading, spool)
                    return spool
            except BaseException:
                spool.close()
                raise
            former = result
            spool.close()
        raise ChangedWhileReadError(
            f"{resource_type.name} changed at each of {self._max_readings} readings, so records may be missing: try"
            " again later, when the roster of the provider does not change"
        )

    def _read_once(self, resource_type: ResourceType, since: str | None, spool: RecordSpool) -> _Reading:
        reading = _Reading(spool)
        page: Page | None = self._provider.read_page(resource_type, since, 0)
        while page is not None:
            reading.add(page)
            if self._on_progress:
                self._on_progress(f"downloading {resource_type.name}", spool.count, reading.last_total)
            page = self._next_page(resource_type, since, page, reading)
        return reading

    def _next_page(self, resource_type: ResourceType, since: str | None, page: Page, reading: _Reading) -> Page | None:
        """Return the page after this one, by its link or, without a link, by offset; None if it is the last one."""
        url = page.next_url
        if url is not None and offset_of(url) != reading.count:
            if url in reading.links:
                raise SourceError(
                    f"the links between the pages of {resource_type.name} lead back to a former page: tell the"
                    " operator of the provider"
                )
            reading.links.add(url)
            return self._provider.follow(resource_type, url)
        if not reading.has_new or (page.has_links and url is None and reading.has_all):
            return None
        overlap = OVERLAP if reading.page_size > OVERLAP else 0
        return reading.without_overlap(self._provider.read_page(resource_type, since, reading.count - overlap), overlap)

    def _log_wrong_total(self, resource_type: ResourceType, reading: _Reading, spool: RecordSpool) -> None:
        if reading.last_total not in (None, spool.count):
            log.warning(
                "the provider counts %s %s, but has sent the same %s in two readings",
                reading.last_total,
                resource_type.name,
                spool.count,
            )


@dataclass(slots=True)
class _Reading:
    """State of one reading. `count` is the number of records so far, with those that occurred twice.

    `page_size` is the number of records of the first page, because providers send smaller pages than requested.
    `has_new` is True if the last page had a record that no page before had. `links` are those that were followed.
    """

    spool: RecordSpool
    count: int = 0
    page_size: int = 0
    has_new: bool = False
    last_total: int | None = None
    totals: set[int | None] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    _last_key: str | None = None
    _has_moved: bool = False

    def add(self, page: Page) -> None:
        """Add the records of a page."""
        former_count = self.spool.count
        for record in page.records:
            self.spool.add(record)
        self.has_new = self.spool.count > former_count
        self.page_size = self.page_size or len(page.records)
        self.count += len(page.records)
        self.totals.add(page.total)
        self.last_total = page.total
        if page.records:
            self._last_key = self.spool.key_of(page.records[-1])

    def without_overlap(self, page: Page, overlap: int) -> Page:
        """Return the page without the records that the page before has too. Note if they differ."""
        if not overlap:
            return page
        self._has_moved |= not page.records or self.spool.key_of(page.records[0]) != self._last_key
        return replace(page, records=page.records[overlap:])

    @property
    def has_all(self) -> bool:
        """True unless the provider counts more records than it has sent."""
        return self.last_total is None or self.count >= self.last_total

    @property
    def is_plausible(self) -> bool:
        """True if nothing shows that the collection changed, or that records are missing."""
        is_steady = not self._has_moved and len(self.totals) == 1 and not self.spool.duplicates
        return is_steady and self.last_total in (None, self.spool.count)
