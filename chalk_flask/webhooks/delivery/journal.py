"""Journal of attempt results in a file, for the time until they are in the store.

A process that is killed loses what it has in memory. The next worker reads the journal, so that it does not repeat the
deliveries whose results are in it. The file is not synced: after a crash of the machine, they are sent again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from chalk_flask.files import atomic_write, make_private_folder, open_private
from chalk_flask.outbox import Attempt
from chalk_flask.tracebacks import RepeatedErrors
from chalk_flask.webhooks.delivery.result import AttemptResult

__all__ = ["ResultJournal"]

log = logging.getLogger(__name__)

MAX_BYTES: Final = 1 << 20
"""Size above which the results that are in the store by now are removed."""


class ResultJournal:
    """File with one JSON object per result, which only its owner can read. Not thread-safe.

    Only the process that holds the leader lock uses it. Without a path it keeps nothing, as for a store in memory.
    A failure of the disk is logged: deliveries may then be sent again after a sudden end.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._size = 0
        self._errors = RepeatedErrors()

    def append(self, result: AttemptResult) -> None:
        """Add a result. It survives the end of this process."""
        if self._path is None:
            return
        line = orjson.dumps(_to_dict(result)) + b"\n"
        try:
            if self._descriptor is None:
                self._descriptor = self._open(self._path)
            os.write(self._descriptor, line)
        except OSError as error:
            self._on_failure(error)
        else:
            self._size += len(line)
            self._errors.clear()

    def remove_stored(self, pending: Sequence[AttemptResult]) -> None:
        """Remove the results that are in the store: all but the pending ones. It may keep them until the file is large.

        A result that is read again although it is in the store changes nothing.
        """
        if self._path is None or not self._size or (pending and self._size < MAX_BYTES):
            return
        try:
            if pending:
                self._rewrite(self._path, pending)
            elif self._descriptor is not None:
                os.ftruncate(self._descriptor, 0)
                self._size = 0
        except OSError as error:
            self._on_failure(error)

    def read(self) -> list[AttemptResult]:
        """Return the results of a worker that ended suddenly, in order. An incomplete last line is ignored."""
        try:
            content = b"" if self._path is None else self._path.read_bytes()
        except FileNotFoundError:
            return []
        return [result for line in content.splitlines() if (result := _parse(line)) is not None]

    def clear(self) -> None:
        """Delete the file."""
        self.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._size = None, 0

    def _open(self, path: Path) -> int:
        make_private_folder(path.parent)
        descriptor = open_private(str(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        self._size = os.fstat(descriptor).st_size
        return descriptor

    def _rewrite(self, path: Path, results: Iterable[AttemptResult]) -> None:
        content = b"".join(orjson.dumps(_to_dict(result)) + b"\n" for result in results)
        with atomic_write(path, sync_parent=False, for_store=True) as file:
            file.write(content)
        self.close()
        self._descriptor = self._open(path)

    def _on_failure(self, error: OSError) -> None:
        level = self._errors.level(str(error.strerror))
        log.log(level, "results of webhook deliveries are kept in memory only: %s", error.strerror)


def _to_dict(result: AttemptResult) -> dict[str, Any]:
    return {
        "tenant": result.tenant,
        "webhook": result.webhook,
        "key": result.key,
        "event": result.event_id,
        "attempt": asdict(result.attempt),
        "ended": result.ended_at,
        "delivered": result.delivered,
        "gone": result.is_gone,
        "retryAfter": result.retry_after,
    }


def _parse(line: bytes) -> AttemptResult | None:
    try:
        data = orjson.loads(line)
        return AttemptResult(
            tenant=data["tenant"],
            webhook=data["webhook"],
            key=data["key"],
            event_id=data["event"],
            attempt=Attempt(**data["attempt"]),
            ended_at=data["ended"],
            delivered=data["delivered"],
            is_gone=data["gone"],
            retry_after=data["retryAfter"],
        )
    except (ValueError, KeyError, TypeError):
        return None
