"""Checks of `/readyz`: the storage, the workers and the age of the rosters."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from backends import CONTROL, StorageError
from chalk_flask.monitoring.roster_age import RosterAges
from chalk_flask.services import Services
from chalk_flask.tracebacks import RepeatedErrors

__all__ = ["Readiness", "ReadinessCheck"]

log = logging.getLogger(__name__)

CACHE_SECONDS: Final = 1.0
"""Time for which a result is used again, because anyone can request it."""

STORAGE_MESSAGE: Final = "The store cannot be read. The log of the service has the reason."
WORKER_MESSAGES: Final = {
    "webhooks": "No process delivers webhooks. Run `chalk-flask serve` or `chalk-flask worker` on this store.",
    "jobs": "No process runs imports of the console. Run `chalk-flask serve` or `chalk-flask worker` on this store.",
}
LOCK_MESSAGE: Final = "The lock of the worker in the folder of the setting `data` cannot be read."


@dataclass(frozen=True, slots=True)
class Readiness:
    """Result of all checks, by name. Each has a `status`, and a `message` if it failed."""

    checks: Mapping[str, Mapping[str, Any]]

    @property
    def is_ready(self) -> bool:
        """True if no check failed."""
        return all(check["status"] == "ok" for check in self.checks.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of `/readyz`."""
        return {"status": "ready" if self.is_ready else "unavailable", "checks": dict(self.checks)}


class ReadinessCheck:
    """Checks of a service, at most once in CACHE_SECONDS. Thread-safe."""

    def __init__(self, services: Services, ages: RosterAges, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._services, self._ages, self._monotonic = services, ages, monotonic
        self._max_hours = services.settings.ready_max_roster_hours
        self._lock = threading.Lock()
        self._errors = RepeatedErrors()
        self._last: tuple[float, Readiness] | None = None

    def run(self) -> Readiness:
        """Return the result of the checks."""
        with self._lock:
            if self._last is None or self._monotonic() >= self._last[0] + CACHE_SECONDS:
                readiness = self._run()
                self._last = (self._monotonic(), readiness)
            return self._last[1]

    def _run(self) -> Readiness:
        services = self._services
        workers = {
            "webhooks": self._check_worker("webhooks", services.worker.is_running_anywhere),
            "jobs": self._check_worker("jobs", services.job_worker.is_running_anywhere),
        }
        try:
            with services.store.read(CONTROL, query_seconds=services.settings.query_seconds) as control:
                control.exists("tenants")
            roster = self._check_roster()
        except StorageError as error:
            log.log(self._errors.level(type(error).__name__, logging.ERROR), "the service is not ready: %s", error)
            storage, unknown = _failed(STORAGE_MESSAGE), {"status": "unknown"}
            return Readiness({"storage": storage, "roster": unknown, **workers})
        self._errors.clear()
        return Readiness({"storage": {"status": "ok"}, "roster": roster, **workers})

    @staticmethod
    def _check_worker(name: str, is_running: Callable[[], bool]) -> Mapping[str, Any]:
        try:
            return {"status": "ok"} if is_running() else _failed(WORKER_MESSAGES[name])
        except OSError:
            return _failed(LOCK_MESSAGE)

    def _check_roster(self) -> Mapping[str, Any]:
        """Return the age of the oldest roster. It fails only if the operator has set a maximum."""
        ages = [age for age in self._ages.read().values() if age.has_users or age.imported is not None]
        hours = [age.hours_at(self._ages.now()) for age in ages]
        known = [each for each in hours if each is not None]
        members: dict[str, Any] = {"rosters": len(hours), "oldest_hours": round(max(known), 2) if known else None}
        if not self._max_hours:
            return {"status": "ok", **members}
        late = sum(each is None or each > self._max_hours for each in hours)
        members["max_hours"] = self._max_hours
        if not late:
            return {"status": "ok", **members}
        message = (
            f"The roster of {late} of {len(hours)} tenants has had no import for more than {self._max_hours} hours."
        )
        return _failed(message) | members


def _failed(message: str) -> dict[str, Any]:
    return {"status": "failed", "message": message}
