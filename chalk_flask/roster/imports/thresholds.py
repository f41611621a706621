"""The brake: an import that would delete or change much of what is stored is held until somebody has looked at it.

A limit is a share of the active records stored of a class and a number of records; only what is above both trips it.
So nothing trips while a class is empty, and a small class may change as it likes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from chalk_flask.roster.diff.change_set import Outcome

__all__ = ["CHANGED", "DELETED", "DISABLED", "ChangeThresholds", "ExceededThreshold", "Threshold", "parse_threshold"]

What: TypeAlias = Literal["deleted", "changed"]

_LIMIT = re.compile(r"([0-9]{1,4}) *%? *, *([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A percentage of the active records stored of a class, and a number of records."""

    percent: int
    rows: int

    def __str__(self) -> str:
        """As `parse_limit` reads it."""
        return f"{self.percent}%,{self.rows}"


DELETED = Threshold(10, 10)
"""Held is what deletes more than 10 % of the stored records of a class, and more than 10 of them."""
CHANGED = Threshold(75, 100)
"""Held is what changes more than 75 % of a class of which more than 100 records are stored."""


@dataclass(frozen=True, slots=True)
class ExceededThreshold:
    """One reason to hold: `count` records of a file would be deleted, or changed and deleted; `stored` are active."""

    file: str
    what: What
    count: int
    stored: int
    percent: int
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def to_text(self) -> str:
        """A sentence for a person."""
        share = f"{self.file}: {self.count:,} of {self.stored:,} stored records would be deleted"
        if self.what == "deleted":
            return f"{share}; up to {self.percent} % or {self.rows:,} records pass"
        share = f"{self.file}: {self.count:,} of {self.stored:,} stored records would be changed or deleted"
        return f"{share}; up to {self.percent} % pass, or any number up to {self.rows:,} stored records"


@dataclass(frozen=True, slots=True)
class ChangeThresholds:
    """The limits of a tenant; None is no limit.

    Changed are stored records that would be updated or deleted. What is new does not touch them: it may be much, as
    when a year begins, or a first school becomes a district.
    """

    deleted: Threshold | None = DELETED
    changed: Threshold | None = CHANGED

    def exceeded(
        self, file: str, counts: Mapping[Outcome, int], stored: Callable[[], int]
    ) -> Iterator[ExceededThreshold]:
        """The limits that the counts of a file are above; `stored` counts the active records, and is asked if need be.

        Only counts that can matter ask it: counting may take long.
        """
        deleted = counts.get("deleted", 0)
        changed = deleted + counts.get("updated", 0)
        if (limit := self.deleted) and deleted > limit.rows:
            active = stored()
            if deleted * 100 > limit.percent * active:
                yield ExceededThreshold(file, "deleted", deleted, active, limit.percent, limit.rows)
        if (limit := self.changed) and changed * 100 > limit.percent * limit.rows:
            active = stored()
            if active > limit.rows and changed * 100 > limit.percent * active:
                yield ExceededThreshold(file, "changed", changed, active, limit.percent, limit.rows)


DISABLED = ChangeThresholds(None, None)
"""No brake: for what somebody has approved."""


def parse_threshold(text: str) -> Threshold | None:
    """The limit that stands as `10%,10` (a percentage, and a number of records), or None for `off`.

    Raises ValueError, whose message says what is wanted.
    """
    if text.strip().lower() == "off":
        return None
    if match := _LIMIT.fullmatch(text.strip()):
        return Threshold(int(match[1]), int(match[2]))
    raise ValueError(f"{text[:80]!r} is not a limit: give a percentage and a number of records, as in 10%,10, or off")
