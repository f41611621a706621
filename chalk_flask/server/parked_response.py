"""Parked response: it waits without a thread, for a client that reads slowly or for the application.

waitress runs a response in one thread until its end. `ParkingApplication` interrupts it between two blocks by raising
Parked. The channel keeps the interrupted response, and the server loop queues it again when it can go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

if TYPE_CHECKING:
    from chalk_flask.server.connection_channel import Task

__all__ = [
    "OUTPUT_BUFFER_BYTES",
    "TASK_KEY",
    "WAITS_WITHOUT_THREAD",
    "Blocks",
    "Parked",
    "ParkingApplication",
    "abandon",
]

OUTPUT_BUFFER_BYTES = 262144
"""Size of buffered output above which a response waits. Its rest stays in the store, not in memory."""

WAITS_WITHOUT_THREAD = "chalk_flask.waits_without_thread"
"""Key of the WSGI environment. If it is present, the application can yield b"" to be asked again a little later.

PEP 3333 allows that before `start_response` is called, but few servers support it.
"""

TASK_KEY = "chalk_flask.task"
_BLOCKS_KEY = "chalk_flask.blocks"


class Parked(BaseException):
    """Signal that a response goes on later. It is not an error, so nothing that handles errors must catch it.

    `is_waiting` is True if the response waits for the application, and False if it waits for the client.
    """

    def __init__(self, *, is_waiting: bool) -> None:
        super().__init__()
        self.is_waiting = is_waiting


class Blocks:
    """Iterator over the blocks of a response, which raises Parked between two blocks.

    A response with a second block is a stream. It parks after the first one, so that the dispatcher counts it.
    """

    def __init__(self, app_iter: Iterable[bytes], task: Task) -> None:
        self._app_iter = app_iter
        self._iterator = iter(app_iter)
        self._channel = task.channel
        self._is_parked = False
        self._block_count = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._is_parked:
            self._is_parked = False
        elif self._block_count and (self._block_count == 1 or self._channel.must_park()):
            self._park(is_waiting=False)
        block = next(self._iterator)
        if not block:
            self._park(is_waiting=True)
        self._block_count += 1
        return block

    def _park(self, *, is_waiting: bool) -> None:
        self._is_parked = True
        raise Parked(is_waiting=is_waiting)

    def close(self) -> None:
        """Close the response of the application, unless it is parked: waitress calls this when it is interrupted."""
        if not self._is_parked:
            close: Callable[[], None] | None = getattr(self._app_iter, "close", None)
            if close:
                close()

    def abandon(self) -> None:
        """Close the response of the application if it is parked."""
        if self._is_parked:
            self._is_parked = False
            self.close()


class ParkingApplication:
    """WSGI application whose responses can be parked. Only `Task` can run it."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Return the blocks of a response, or the rest of one that was parked."""
        blocks: Blocks | None = environ.get(_BLOCKS_KEY)
        if blocks is not None:
            return blocks
        environ[WAITS_WITHOUT_THREAD] = True
        app_iter = self._app(environ, start_response)
        task: Task = environ[TASK_KEY]
        if task.content_length is not None or hasattr(app_iter, "__len__"):
            return app_iter  # a response with a known length is one block, which is buffered at once
        blocks = environ[_BLOCKS_KEY] = Blocks(app_iter, task)
        return blocks


def abandon(environ: dict[str, Any] | None) -> None:
    """Close the parked response of an environment, if there is one."""
    blocks: Blocks | None = (environ or {}).get(_BLOCKS_KEY)
    if blocks is not None:
        blocks.abandon()
