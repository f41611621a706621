"""Queue of the loop requests, which the server loop runs after it has handled the events of its sockets."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from chalk_flask.server.loop_requests.loop_kinds import ClassifyRequest, LoopKinds

if TYPE_CHECKING:
    from chalk_flask.server.connection_channel import Channel
    from chalk_flask.server.dispatcher import ShortRequestFirstDispatcher
    from chalk_flask.server.request_parser import Parser
    from chalk_flask.server.socket_map import SocketMap

__all__ = ["LoopQueue"]

MAX_RUN_SECONDS = 0.005
"""Time after which the loop handles the events of its sockets again, even if requests are queued."""

_TOKEN_PREFIX = "bearer chk_"
"""Beginning of the credential keys of API tokens. Verifying others can take long, or use up a nonce."""


class LoopQueue:
    """Queue of connections whose next request the server loop runs, in the order of arrival.

    It contains each connection once at most. Without `classify_request`, threads run all requests. `kind_of` and
    `kinds` are thread-safe. Only the server loop may call `add` and `run`.
    """

    def __init__(
        self, dispatcher: ShortRequestFirstDispatcher, sockets: SocketMap, classify_request: ClassifyRequest | None
    ) -> None:
        self._dispatcher = dispatcher
        self._sockets = sockets
        self._classify_request = classify_request
        self._channels: deque[Channel] = deque()
        self.kinds = LoopKinds()

    def __len__(self) -> int:
        return len(self._channels)

    def kind_of(self, credential: str, request: Parser) -> str:
        """Return the kind of a request with this credential key, or "" if only a thread may run it. Thread-safe.

        The credential is part of the kind, because requests with another one see other records and may take longer.
        """
        if self._classify_request is None or not credential.startswith(_TOKEN_PREFIX):
            return ""
        if request.error or request.body_rcv is not None:
            return ""
        kind = self._classify_request(request.command, request.path, request.query)
        return f"{credential} {kind}" if kind else ""

    def add(self, channel: Channel) -> None:
        """Queue the next request of a connection."""
        self._channels.append(channel)

    def run(self) -> None:
        """Run requests until none is left or MAX_RUN_SECONDS have passed.

        Requests that must wait go to the threads. While a thread works on a long request, all of them do.
        """
        end = time.monotonic() + MAX_RUN_SECONDS
        while self._channels:
            channel = self._channels.popleft()
            if not self._dispatcher.has_long_request and channel.serve_in_loop():
                self._sockets.update_channel(channel)
            else:
                self._dispatcher.add_task(channel, channel.shares)
            if time.monotonic() > end:
                return
