"""Retention periods that a tenant can set: how long tombstones, deliveries and the change history are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["DELIVERY_DAYS", "HISTORY_DAYS", "PERIODS", "TOMBSTONE_DAYS", "RetentionPeriod"]


@dataclass(frozen=True, slots=True)
class RetentionPeriod:
    """Allowed numbers of days, both limits included."""

    minimum: int
    maximum: int

    def parse(self, text: str) -> int | None:
        """Return the number of days, or None for the default: an empty text, or `default`.

        Raises ValueError, whose message is the rule that the text violates.
        """
        text = text.strip().lower()
        if text in ("", "default"):
            return None
        if not re.fullmatch(r"[0-9]{1,9}", text) or not self.minimum <= int(text) <= self.maximum:
            raise ValueError(f"a number of days must be from {self.minimum} to {self.maximum}")
        return int(text)


TOMBSTONE_DAYS: Final = RetentionPeriod(90, 36_500)
"""Days for which a deleted record stays visible. The standard requires 90."""

DELIVERY_DAYS: Final = RetentionPeriod(1, 365)
"""Days for which a finished delivery of a webhook is stored and can be replayed."""

HISTORY_DAYS: Final = RetentionPeriod(0, 36_500)
"""Days for which former values of roster records are stored; 0 for none."""

PERIODS: Final[Mapping[str, RetentionPeriod]] = {
    "tombstone_days": TOMBSTONE_DAYS,
    "delivery_days": DELIVERY_DAYS,
    "history_days": HISTORY_DAYS,
}
"""Retention periods by the option of a tenant that sets them."""
