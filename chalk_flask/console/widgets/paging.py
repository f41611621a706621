"""Pages of a list: the offset in the query of the URL, and links to the previous and the next page."""

from __future__ import annotations

from dataclasses import dataclass

from flask import request, url_for

__all__ = ["PAGE_SIZE", "Page", "page_of", "page_offset"]

PAGE_SIZE = 50
"""Entries on a page of a list."""
MAX_OFFSET = 10_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """Page of a list. `first` and `last` are the numbers of its entries, from 1. An empty URL stands for no page."""

    offset: int
    size: int
    total: int
    previous_url: str
    next_url: str

    @property
    def first(self) -> int:
        """Number of the first entry; 0 for an empty page."""
        return self.offset + 1 if self.offset < self.total else 0

    @property
    def last(self) -> int:
        """Number of the last entry."""
        return min(self.offset + self.size, self.total)


def page_offset() -> int:
    """Return the parameter `offset` of the current request; 0 if it is missing or invalid."""
    text = request.args.get("offset", "")
    return min(int(text), MAX_OFFSET) if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_OFFSET)) else 0


def page_of(total: int, size: int = PAGE_SIZE) -> Page:
    """Return the page at the offset of the current request, in a list of `total` entries."""
    offset = page_offset()
    has_next = offset + size < total
    return Page(
        offset,
        size,
        total,
        _url(max(offset - size, 0)) if offset else "",
        _url(offset + size) if has_next else "",
    )


def _url(offset: int) -> str:
    """Return the URL of the current page with another offset."""
    params = {name: values for name, values in request.args.to_dict(flat=False).items() if name != "offset"}
    if offset:
        params["offset"] = [str(offset)]
    ids = request.view_args or {}
    return url_for(request.endpoint or "", **ids) + _query(params)


def _query(params: dict[str, list[str]]) -> str:
    from urllib.parse import urlencode

    return f"?{urlencode(params, doseq=True)}" if params else ""
