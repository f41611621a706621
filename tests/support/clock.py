"""A clock that tests set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["FakeClock"]


class FakeClock:
    """Time that changes only when a test changes it; pass `clock` as `now`, or `clock.time` where seconds are due."""

    def __init__(self, start: datetime | float = datetime(2026, 9, 1, 8, tzinfo=UTC)) -> None:
        self.set(start)

    def __call__(self) -> datetime:
        """Return the time in UTC, with whole microseconds."""
        return self.now

    @property
    def now(self) -> datetime:
        """Time in UTC, with whole microseconds."""
        return datetime.fromtimestamp(self.seconds, UTC)

    def time(self) -> float:
        """Return the time in seconds since the epoch."""
        return self.seconds

    def set(self, time: datetime | float) -> None:
        """Set the time: a datetime or seconds since the epoch."""
        self.seconds = time.timestamp() if isinstance(time, datetime) else time

    def advance(self, seconds: float = 0, **parts: float) -> None:
        """Advance the time by seconds, or by the arguments of a timedelta."""
        self.seconds += timedelta(seconds=seconds, **parts).total_seconds()
