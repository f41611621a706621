"""Change thresholds: an import that would delete or change too much of the roster is held for approval.

A threshold has a percentage and a number. Only an import that is above both exceeds it. So the first import of a
file never exceeds one, and small files can change freely.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from chalk_flask.roster.diff.change_set import Outcome

__all__ = ["CHANGED", "DELETED", "DISABLED", "ChangeThresholds", "ExceededThreshold", "Threshold", "parse_threshold"]

ChangeKind: TypeAlias = Literal["deleted", "changed"]

_THRESHOLD = re.compile(r"([0-9]{1,4}) *%? *, *([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Threshold:
    """Percentage of the active stored records of a file, and a number of records."""

    percent: int
    rows: int

    def __str__(self) -> str:
        """Return the text that `parse_threshold` parses."""
        return f"{self.percent}%,{self.rows}"


DELETED = Threshold(10, 10)
"""Default: hold an import that deletes more than 10 % and more than 10 of the stored records of a file."""
CHANGED = Threshold(75, 100)
"""Default: hold an import that changes more than 75 % of a file with more than 100 stored records."""


@dataclass(frozen=True, slots=True)
class ExceededThreshold:
    """One reason to hold an import.

    `count` of the `stored` active records of `file` would be deleted, or for "changed" updated or deleted. `percent`
    and `rows` are the limits of the threshold.
    """

    file: str
    what: ChangeKind
    count: int
    stored: int
    percent: int
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)

    def to_text(self) -> str:
        """Return one sentence without a period."""
        records = f"{self.count:,} of {self.stored:,} stored records"
        if self.what == "deleted":
            return f"{self.file}: would delete {records} (threshold: {self.percent} % and {self.rows:,} records)"
        threshold = f"{self.percent} % of more than {self.rows:,} records"
        return f"{self.file}: would change or delete {records} (threshold: {threshold})"


@dataclass(frozen=True, slots=True)
class ChangeThresholds:
    """Thresholds of a tenant; None means no threshold.

    `deleted` counts deleted records, `changed` counts updated and deleted records. Created records do not count: a new
    school year or a new school adds many.
    """

    deleted: Threshold | None = DELETED
    changed: Threshold | None = CHANGED

    def find_exceeded(
        self, file: str, counts: Mapping[Outcome, int], count_active: Callable[[], int]
    ) -> Iterator[ExceededThreshold]:
        """Yield the thresholds that the counts of a file exceed.

        `count_active` returns the number of active stored records. It is slow, so it is called only if necessary.
        """
        deleted = counts.get("deleted", 0)
        changed = deleted + counts.get("updated", 0)
        if (limit := self.deleted) and deleted > limit.rows:
            active = count_active()
            if deleted * 100 > limit.percent * active:
                yield ExceededThreshold(file, "deleted", deleted, active, limit.percent, limit.rows)
        if (limit := self.changed) and changed * 100 > limit.percent * limit.rows:
            active = count_active()
            if active > limit.rows and changed * 100 > limit.percent * active:
                yield ExceededThreshold(file, "changed", changed, active, limit.percent, limit.rows)


DISABLED = ChangeThresholds(None, None)
"""No threshold, for a package that was approved."""


def parse_threshold(text: str) -> Threshold | None:
    """Return the threshold written as percentage and number of records (`10%,10`), or None for `off`.

    Raises ValueError with a message for the operator.
    """
    if text.strip().lower() == "off":
        return None
    if match := _THRESHOLD.fullmatch(text.strip()):
        return Threshold(int(match[1]), int(match[2]))
    raise ValueError(
        f"{text[:80]!r} is not a threshold: use a percentage and a number of records, such as 10%,10, or off"
    )
