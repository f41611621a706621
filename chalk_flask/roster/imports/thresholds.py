"""Change thresholds: an import that would delete or change too much of the roster is held for approval.

A threshold has a percentage and a number. Only an import that is above both exceeds it. So the first import of a
file never exceeds one, and small files can change freely. Two more limits protect small files from being deleted: the
half of a file, and a bulk file that has only a header. A school that is in use is protected however small it is, see
`threshold_check`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from chalk_flask.roster.diff.change_set import Outcome

__all__ = [
    "CHANGED",
    "DELETED",
    "DISABLED",
    "QUARANTINED",
    "ChangeThresholds",
    "CountActive",
    "ExceededThreshold",
    "Threshold",
    "normalize_threshold",
    "parse_threshold",
]

ChangeKind: TypeAlias = Literal["deleted", "half", "emptied", "school", "changed", "quarantined"]

CountActive: TypeAlias = Callable[[int | None], int]
"""Function that returns the number of active stored records of a file, or its argument if there are more."""

_THRESHOLD = re.compile(r"([0-9]{1,4}) *%? *, *([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Threshold:
    """Percentage of the active stored records of a file, and a number of records."""

    percent: int
    rows: int

    def __str__(self) -> str:
        """Return the text that `parse_threshold` parses."""
        return f"{self.percent}%,{self.rows}"

    def min_active_to_allow(self, count: int) -> int | None:
        """Return the number of active records from which on `count` is within `percent`.

        Return None if `percent` is 0.
        """
        return -(-count * 100 // self.percent) if self.percent else None


DELETED = Threshold(10, 10)
"""Default: hold an import that deletes more than 10 % and more than 10 of the stored records of a file."""
CHANGED = Threshold(75, 100)
"""Default: hold an import that changes more than 75 % of a file with more than 100 stored records."""
QUARANTINED = Threshold(1, 10)
"""Default: hold an import that quarantines more than 1 % and more than 10 of the rows of a file."""
HALF = Threshold(50, 2)
"""Hold an import that deletes more than 50 % of a file with at least 2 active stored records."""


@dataclass(frozen=True, slots=True)
class ExceededThreshold:
    """One reason to hold an import.

    `count` of the `stored` active records of `file` would be deleted, or for "changed" updated or deleted. For
    "emptied", the file has only a header. For "school", `count` of the `stored` active schools would be deleted
    although active records refer to them. For "quarantined", `count` of the rows of the file are quarantined, and
    `stored` is the number of its rows. `percent` and `rows` are the limits of the threshold.
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
        limits = f"{self.percent} % and {self.rows:,} records"
        share = f"{self.percent} % of more than {self.rows:,} records"
        match self.what:
            case "deleted":
                return f"{self.file}: would delete {records} (threshold: {limits})"
            case "half":
                limits = f"{self.percent} % of at least {self.rows} records"
                return f"{self.file}: would delete {records} (threshold: {limits})"
            case "emptied":
                return f"{self.file}: has only a header and would delete {records}"
            case "school":
                schools = f"{self.count:,} of {self.stored:,} stored schools"
                return f"{self.file}: would delete {schools} that have active users, classes or enrollments"
            case "changed":
                return f"{self.file}: would change or delete {records} (threshold: {share})"
            case "quarantined":
                limits = f"{self.percent} % and {self.rows:,} rows"
                return f"{self.file}: {self.count:,} of {self.stored:,} rows are quarantined (threshold: {limits})"


@dataclass(frozen=True, slots=True)
class ChangeThresholds:
    """Thresholds of a tenant; None means no threshold.

    `deleted` counts deleted records, `changed` counts updated and deleted records. Created records do not count: a new
    school year or a new school adds many. `quarantined` counts quarantined rows.
    """

    deleted: Threshold | None = DELETED
    changed: Threshold | None = CHANGED
    quarantined: Threshold | None = QUARANTINED

    @classmethod
    def parse(cls, deleted: str | None, changed: str | None, quarantined: str | None) -> ChangeThresholds:
        """Return the thresholds of these texts, see `parse_threshold`. None is the default. Raises ValueError."""
        texts = {"deleted": deleted, "changed": changed, "quarantined": quarantined}
        return cls(**{name: parse_threshold(text) for name, text in texts.items() if text is not None})

    def find_exceeded(
        self, file: str, counts: Mapping[Outcome, int], count_active: CountActive, *, is_empty: bool = False
    ) -> Iterator[ExceededThreshold]:
        """Yield the thresholds that the counts of a file exceed.

        `count_active` may be slow, so it is called only if necessary, and for no more records than necessary.
        `is_empty` is True for a bulk file that has only a header.
        """
        deleted = counts.get("deleted", 0)
        changed = deleted + counts.get("updated", 0)
        if self.deleted and deleted:
            yield from self._exceeded_by_deletions(file, deleted, count_active, is_empty, self.deleted)
        if (limit := self.changed) and changed * 100 > limit.percent * limit.rows:
            active = count_active(limit.min_active_to_allow(changed))
            if active > limit.rows and changed * 100 > limit.percent * active:
                yield ExceededThreshold(file, "changed", changed, active, limit.percent, limit.rows)

    def find_quarantined(self, file: str, quarantined: int, rows: int) -> Iterator[ExceededThreshold]:
        """Yield the threshold that the number of quarantined rows among the rows of a file exceeds."""
        limit = self.quarantined
        if limit and quarantined > limit.rows and quarantined * 100 > limit.percent * rows:
            yield ExceededThreshold(file, "quarantined", quarantined, rows, limit.percent, limit.rows)

    @staticmethod
    def _exceeded_by_deletions(
        file: str, deleted: int, count_active: CountActive, is_empty: bool, limit: Threshold
    ) -> Iterator[ExceededThreshold]:
        """Yield at most one threshold: the one that says most about the deletions."""
        active = count_active(None if is_empty else limit.min_active_to_allow(deleted))
        half = max(HALF.percent, limit.percent)
        if is_empty:
            yield ExceededThreshold(file, "emptied", deleted, active, 0, 0)
        elif deleted > limit.rows and deleted * 100 > limit.percent * active:
            yield ExceededThreshold(file, "deleted", deleted, active, limit.percent, limit.rows)
        elif active >= HALF.rows and deleted * 100 > half * active:
            yield ExceededThreshold(file, "half", deleted, active, half, HALF.rows)


DISABLED = ChangeThresholds(None, None, None)
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


def normalize_threshold(text: str) -> str:
    """Return a threshold in the form in which a tenant stores it; "" for an empty text and for `default`.

    Raises ValueError for an invalid threshold, and for one that would never hold an import.
    """
    if text.strip().lower() in ("", "default"):
        return ""
    threshold = parse_threshold(text)
    if threshold and threshold.percent > 100:
        raise ValueError(f"{text!r} would never hold an import: give at most 100 %, or off")
    return str(threshold or "off")
