"""The Link header (RFC 8288; digest 4.2)."""

from __future__ import annotations

from chalk_flask.api.reads.query_params import QueryParams

__all__ = ["link_header"]


def link_header(url: str, asked: QueryParams, total: int) -> str:
    """first, prev, next and last of a page whose size is known: absolute, with every other parameter kept."""
    limit, offset = asked.limit or 1, asked.offset
    last = max(total - 1, 0) // limit * limit
    # From beyond the end one page back is still beyond it, as far as the reader knows: arithmetic, not a search.
    steps = [("first", 0), ("prev", max(0, offset - limit)), ("next", offset + limit), ("last", last)]
    others = f"{asked.other_params}&" if asked.other_params else ""
    return ", ".join(
        f'<{url}?{others}limit={limit}&offset={start}>; rel="{name}"'
        for name, start in steps
        if not (name == "prev" and offset == 0) and not (name == "next" and start >= total)
    )
