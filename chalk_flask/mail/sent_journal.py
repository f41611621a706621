"""Journal of sent messages in a file, for the time until they are in the store.

While an import holds the write lock, the store cannot note that a message was sent. The next worker reads the journal,
so that a message is not sent again after the process was killed. A message is sent twice only if the process is killed
after the mail server accepted it and before the line is in the file. Both have the same `Message-ID`, so many servers
drop the second one.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

import orjson

from chalk_flask.files import make_private_folder, open_private
from chalk_flask.tracebacks import RepeatedErrors

__all__ = ["SentJournal", "SentMessage"]

log = logging.getLogger(__name__)


class SentMessage(NamedTuple):
    """Message that needs no further attempt: tenant, key of the notice, and id of the administrator."""

    tenant: str
    notice: str
    administrator: str


class SentJournal:
    """Set of sent messages that are not in the store yet, in memory and in a file. Not thread-safe.

    Only the process that holds the leader lock uses it. Without a path it has no file, as for a store in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._messages: set[SentMessage] = set()
        self._errors = RepeatedErrors()

    def __contains__(self, message: SentMessage) -> bool:
        return message in self._messages

    def load(self) -> None:
        """Read the messages of a worker that was killed. An incomplete last line is ignored. Raises OSError."""
        try:
            lines = b"" if self._path is None else self._path.read_bytes()
        except FileNotFoundError:
            return
        for line in lines.splitlines():
            try:
                self._messages.add(SentMessage(*orjson.loads(line)))
            except (ValueError, TypeError):
                log.warning("a line of the journal of sent mail is damaged, so a message may be sent twice")

    def add(self, message: SentMessage) -> None:
        """Add a message. It survives the end of this process."""
        self._messages.add(message)
        if self._path is None:
            return
        try:
            make_private_folder(self._path.parent)
            descriptor = open_private(str(self._path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
            try:
                os.write(descriptor, orjson.dumps(list(message)) + b"\n")
            finally:
                os.close(descriptor)
        except OSError as error:
            level = self._errors.level(str(error.strerror))
            log.log(level, "the journal of sent mail is kept in memory only: %s", error.strerror)

    def of_tenant(self, tenant: str) -> dict[str, set[str]]:
        """Return the ids of the administrators who need no further attempt, by key of the notice."""
        found: dict[str, set[str]] = {}
        for message in self._messages:
            if message.tenant == tenant:
                found.setdefault(message.notice, set()).add(message.administrator)
        return found

    def remove_tenant(self, tenant: str) -> None:
        """Remove the messages of a tenant, which are in the store now. The file is deleted with the last message."""
        before = len(self._messages)
        self._messages = {message for message in self._messages if message.tenant != tenant}
        if self._path is not None and before and not self._messages:
            self._path.unlink(missing_ok=True)
