"""Queue of the short requests that the server loop runs after it has handled the events of its sockets."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from chalk_flask.server.short_requests.short_kinds import RequestKind, ShortKinds

if TYPE_CHECKING:
    from chalk_flask.server.connection_channel import Channel
    from chalk_flask.server.dispatcher import ShortRequestFirstDispatcher
    from chalk_flask.server.request_parser import Parser
    from chalk_flask.server.socket_map import SocketMap

__all__ = ["DueRequests"]

TURN_SECONDS = 0.005
"""Time after which the sockets have their turn, even if requests are queued."""

_TOKEN_PREFIX = "bearer chk_"
"""Beginning of the credential keys of API tokens. Verifying other credentials can take long, or uses them up."""


class DueRequests:
    """Connections whose next request the server loop runs, in the order of arrival.

    A connection is here once at most, so a request never waits long. Without `request_kind`, threads run all requests.
    Threads can read and call `kinds`; only the loop calls the methods.
    """

    def __init__(
        self, dispatcher: ShortRequestFirstDispatcher, sockets: SocketMap, request_kind: RequestKind | None
    ) -> None:
        self._dispatcher = dispatcher
        self._sockets = sockets
        self._request_kind = request_kind
        self._channels: deque[Channel] = deque()
        self.kinds = ShortKinds()

    def __len__(self) -> int:
        return len(self._channels)

    def kind_of(self, credential: str, request: Parser) -> str:
        """Return the kind of a request of one credential, or "" if only a thread may run it. Thread-safe.

        Clients of one credential see the same roster, and requests of the same kind by others may take longer.
        """
        if self._request_kind is None or not credential.startswith(_TOKEN_PREFIX):
            return ""
        if request.error or request.body_rcv is not None:
            return ""
        kind = self._request_kind(request.command, request.path, request.query)
        return f"{credential} {kind}" if kind else ""

    def add(self, channel: Channel) -> None:
        """Let the loop run the next request of a connection soon."""
        self._channels.append(channel)

    def run(self) -> None:
        """Run requests until none is left or TURN_SECONDS have passed.

        A thread runs those that it must run, and all of them while it works on a long request.
        """
        end = time.monotonic() + TURN_SECONDS
        while self._channels:
            channel = self._channels.popleft()
            if not self._dispatcher.has_long_request and channel.serve_in_loop():
                self._sockets.update_channel(channel)
            else:
                self._dispatcher.add_task(channel, channel.shares)
            if time.monotonic() > end:
                return
