"""Events of the log: messages with a name and members. `docs/reference/logs.md` lists them.

A member contains ids, counts, states and reasons. It never contains a secret, a name of a person, an e-mail address, a
value of a record or a parameter of a request.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

__all__ = ["LOG_EVENTS", "LogValue", "event_of", "log_event", "make_record", "members_of"]

LOG_EVENTS: Mapping[str, str] = MappingProxyType(
    {
        "service.started": (
            "The service accepts requests. `url`, `version`, `storage` (kind of store), and `processes` if there are"
            " several."
        ),
        "service.stopping": "A signal arrived, and active requests are completed. `signal`.",
        "service.stopped": "The service has ended. `seconds` since its start.",
        "service.reloaded": "New processes serve with the present settings (SIGHUP). `processes`.",
        "service.reload_failed": "The former processes and settings stay. `reason`.",
        "process.ended": "A serving process has ended, and is replaced. `pid`, `reason`, `seconds` since its start.",
        "metrics.separate": "`/metrics` of a process has only its own metrics, because it cannot share them. `reason`.",
        "worker.started": "`chalk-flask worker` sends webhooks and mail and runs jobs. `version`, `storage`.",
        "worker.stopped": "The process has ended. `seconds` since its start.",
        "worker.missing": (
            "No process runs the workers: start `chalk-flask worker`. `waiting` (webhooks, syncs, jobs, deletions)."
        ),
        "worker.found": "A process sends webhooks and runs jobs again.",
        "import.committed": "An import changed the roster. `tenant`, `run`, `seconds`, `rows`, records by outcome.",
        "import.unchanged": "An import found nothing to change. `tenant`, `run`, `seconds`, `rows`.",
        "import.held": "A package waits for approval. `tenant`, `run`, `seconds`, `rows`, `files`, `expires`.",
        "import.rejected": "A package was rejected. `tenant`, `run`, `seconds`, `rows`, number of `problems`.",
        "import.checked": "A dry run has ended. `tenant`, `run`, `seconds`, `rows`, number of `problems`.",
        "event.lost": (
            "Webhooks and mail do not report a rejected import: the store could not be written. `tenant`, `run`."
        ),
        "import.discarded": "A held package was discarded. `tenant`, `run`.",
        "watch.started": "A process watches a folder for packages (`chalk-flask import --watch`). `tenant`, `version`.",
        "watch.stopped": "The process has ended. `seconds` since its start.",
        "package.moved": "The import of a package from the folder has ended. `run`, `folder` (done, held, rejected).",
        "package.invalid": "A link, folder or special file was named like a package; it is in rejected. `type`.",
        "package.incomplete": (
            "Packages in the folder no longer change, but lack the end of a ZIP: the upload broke off, or they are no"
            " ZIP files. They are rejected after an hour. `files` (their number), `reason`."
        ),
        "package.unmovable": (
            "A package, or a link, folder or special file that is named like one, cannot be moved. Remove it: until"
            " then, `--once` exits with 1. `reason`."
        ),
        "package.postponed": "A package from the folder cannot be imported now, and is tried again. `reason`.",
        "job.finished": "A job has ended with a result. `tenant`, `job`, `state` (of its import run).",
        "job.failed": "A job has ended without a result. `tenant`, `job`, `reason`.",
        "source.failed": "A sync has failed, and nothing was imported. `tenant`, `source`, `reason`.",
        "webhook.failed": (
            "An attempt failed. `tenant`, `webhook`, `delivery` (id of the event), `status`, `reason`, `ms`."
        ),
        "webhook.given_up": "The last attempt of a delivery failed. `tenant`, `webhook`, `delivery`, `attempts`.",
        "webhook.disabled": "A webhook gets no more deliveries. `tenant`, `webhook`, `reason`.",
        "mail.sent": "A notice was sent by mail. `tenant`, `notice`, `administrator` (id).",
        "mail.failed": "The mail server cannot be used. It is tried again after `seconds`. `reason`.",
        "mail.rejected": (
            "The mail server rejects a recipient, for good if `is_final`. `tenant`, `notice`, `administrator` (id)."
        ),
        "mail.dropped": "A notice was not sent for 12 hours, and is deleted. `tenant`, `reason`.",
        "request.rejected": (
            "A request was answered with 401 or 403. `status`, `method`, `route`, `reason`, `address`, and the"
            " `tenant` and credential (`way`, `by`) if they are known."
        ),
        "request.completed": (
            "A request was answered (setting `log_requests`). `status`, `method`, `route`, `ms`, `bytes`, and the"
            " `tenant` and credential (`way`, `by`) if they are known."
        ),
        "proxy.untrusted": (
            "Once: a request has `X-Forwarded-*` headers, but is not from `trusted_proxy`, so they are ignored."
            " `address` of the sender, if it is private."
        ),
        "statement.slow": (
            "A statement of the database took longer than `slow_statement_milliseconds`. `ms`, and the `statement`"
            " without its values."
        ),
    }
)
"""Description of each event, with its members, by name."""

LogValue: TypeAlias = str | int | float | bool | list[str] | None

_EVENT, _MEMBERS = "event", "members"
"""Names of the attributes of a log record."""


def log_event(logger: logging.Logger, level: int, event: str, message: str, **members: LogValue) -> None:
    """Log a message with the name of an event and its members. Members that are None are left out.

    Raises ValueError for an event that is not in LOG_EVENTS.
    """
    _check_event(event)
    if logger.isEnabledFor(level):
        logger.handle(make_record(logger, level, event, message, members))


def make_record(
    logger: logging.Logger, level: int, event: str, message: str, members: Mapping[str, LogValue]
) -> logging.LogRecord:
    """Return the log record of an event. It names no line of code, because the event says what happened.

    Raises ValueError for an event that is not in LOG_EVENTS.
    """
    _check_event(event)
    present = {name: value for name, value in members.items() if value is not None}
    extra = {_EVENT: event, _MEMBERS: present}
    return logger.makeRecord(logger.name, level, "", 0, "%s", (message,), None, extra=extra)


def _check_event(event: str) -> None:
    if event not in LOG_EVENTS:
        raise ValueError(f"unknown log event {event!r}; the events are {', '.join(sorted(LOG_EVENTS))}")


def event_of(record: logging.LogRecord) -> str:
    """Return the name of the event of a log record; "" if it has none."""
    event: str = getattr(record, _EVENT, "")
    return event


def members_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return the members of the event of a log record; none if it has no event."""
    members: Mapping[str, Any] = getattr(record, _MEMBERS, {})
    return members
