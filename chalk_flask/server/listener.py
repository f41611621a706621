"""Listening socket: it accepts every connection, and queues requests with the shares of their client."""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from waitress.server import TcpWSGIServer

from chalk_flask.server.client_keys import ClientAddresses, credential_key, is_search
from chalk_flask.server.connection_channel import Channel, is_in_loop, served_channel
from chalk_flask.server.forwarded import ForwardedHeaders
from chalk_flask.server.parked_response import ParkingApplication

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from wsgiref.types import WSGIApplication

    from waitress.adjustments import Adjustments

    from chalk_flask.server.connection_limits import Connections
    from chalk_flask.server.dispatcher import ShortRequestFirstDispatcher
    from chalk_flask.server.large_bodies import LargeBodies
    from chalk_flask.server.loop_requests import LoopQueue
    from chalk_flask.server.socket_map import SocketMap
    from chalk_flask.settings import Settings

__all__ = ["APPLICATION_POLL_SECONDS", "Listener", "PolledResponses", "StandbyListeners"]

APPLICATION_POLL_SECONDS = 0.1
"""Interval at which a response that waits for the application is asked again."""

_SEARCHES = ("search", "")
"""Key of all requests that filter or sort. Half of the threads remain for pages and single reads, which are faster."""

MAX_ACCEPTED = 64
"""Maximum number of connections that are accepted before other sockets have their turn."""


class PolledResponses:
    """Connections whose parked response waits for the application.

    Any thread adds connections and wakes the server loop, which resumes them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wake_loop: Callable[[], None] | None = None
        self._must_resume = False
        self.channels: deque[tuple[float, Channel]] = deque()
        """Connections, each after the time at which it is resumed."""

    def add(self, channel: Channel) -> None:
        """Add a connection. All wait equally long, so they are in the order in which they are resumed."""
        self.channels.append((time.monotonic() + APPLICATION_POLL_SECONDS, channel))

    def open(self, wake_loop: Callable[[], None]) -> None:
        """Let `wake` call `wake_loop`, which wakes the server loop. Call this before the loop runs."""
        self._wake_loop = wake_loop

    def wake(self) -> None:
        """Wake the server loop to resume all responses, because there may be a commit. Does nothing before `open`."""
        if not self.channels or self._must_resume:
            return
        with self._lock:
            self._must_resume = True
            if self._wake_loop is not None:
                self._wake_loop()

    def close(self) -> None:
        """Let `wake` do nothing from now on, because the loop has ended."""
        with self._lock:
            self._wake_loop = None

    def resume_due(self) -> None:
        """Resume the responses whose time has come, and close the connections whose client has gone."""
        now, must_resume, self._must_resume = time.monotonic(), self._must_resume, False
        # Threads add connections meanwhile, and those are not resumed again.
        for _ in range(len(self.channels)):
            if not must_resume and self.channels[0][0] > now:
                break
            channel = self.channels.popleft()[1]
            if channel.is_abandoned():
                channel.handle_close()
            else:
                channel.resume()


class Listener(TcpWSGIServer):
    """Server on one listening socket. All listeners share their dispatcher and their connections."""

    channel_class = Channel
    task_dispatcher: ShortRequestFirstDispatcher
    _map: SocketMap
    _fileno: int | None

    def __init__(
        self,
        app: WSGIApplication,
        settings: Settings,
        listener: socket.socket,
        adjustments: Adjustments,
        sockets: SocketMap,
        dispatcher: ShortRequestFirstDispatcher,
        connections: Connections,
        waiting: PolledResponses,
        large_bodies: LargeBodies,
        loop_queue: LoopQueue,
    ) -> None:
        address = (listener.family, listener.type, listener.proto, listener.getsockname())
        super().__init__(
            app,
            map=sockets,
            _sock=listener,
            dispatcher=dispatcher,
            adj=adjustments,
            bind_socket=False,
            sockinfo=address,
        )
        if settings.trusted_proxy:
            self.application = ForwardedHeaders(self.application, settings.trusted_proxy)
        self.application = ParkingApplication(self.application)
        self._listening = listener
        self.connections = connections
        self.large_bodies = large_bodies
        self.loop_queue = loop_queue
        self._waiting = waiting
        self._addresses = ClientAddresses(settings.trusted_proxy)
        self._address_share = settings.request_limit_address
        self._credential_share = settings.request_limit_credential
        self._search_share = max(1, settings.threads // 2)
        self._address_search_share = max(1, self._search_share * 3 // 4)

    def readable(self) -> bool:
        """Return True while connections are accepted. Too many connections do not stop that: others are closed."""
        return self.accepting

    def pause(self) -> None:
        """Leave new connections to the other processes that listen on this socket."""
        if self._fileno is not None:
            self.del_channel()

    def resume(self) -> None:
        """Accept connections again."""
        if self._fileno is None:
            self._fileno = self._listening.fileno()
            self.add_channel()

    def leave(self) -> None:
        """Accept no more connections, and close the socket. Other processes keep theirs."""
        self.pause()
        self._listening.close()

    def pull_trigger(self) -> None:
        """Wake the server loop, unless this thread has ended a response and its connection waits for a request.

        The loop itself is awake. It updates the connection after the request.
        """
        if is_in_loop():
            return
        channel = served_channel()
        if channel is None or not self._map.await_request(channel):
            super().pull_trigger()

    def wake_loop(self) -> None:
        """Wake the server loop from any thread, also from one that runs a request."""
        super().pull_trigger()

    def handle_accept(self) -> None:
        """Accept connections that are waiting."""
        for _ in range(MAX_ACCEPTED):
            try:
                accepted = self.accept()
                if accepted is None:
                    return
                connection, address = accepted
                self.set_socket_options(connection)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self.connections.free_descriptors()
                return
            self._open(connection, address)

    def _open(self, connection: socket.socket, address: Any) -> None:
        channel = Channel(self, connection, address, self.adj, map=self._map)
        if not self._addresses.is_proxy(address[0]):
            channel.network = self._addresses.network(address[0], {})
        self.connections.add(channel)

    def add_task(self, task: Channel) -> None:  # type: ignore[override]  # every task is a channel
        """Queue the next request of a connection, unless its client must read earlier responses first."""
        if task.hold_if_unread():
            return
        request: Any = task.requests[0]
        if request.headers is not task.identified_headers:
            self._identify_client(task, request.headers)
        shares = task.search_shares if is_search(request.query) else task.read_shares
        task.shares = shares
        task.kind = kind = self.loop_queue.kind_of(task.credential, request)
        if kind and kind in self.loop_queue.kinds and (served_channel() is None or is_in_loop()):
            self.loop_queue.add(task)
            return
        self.task_dispatcher.add_task(task, shares)

    def _identify_client(self, channel: Channel, headers: Mapping[str, str]) -> None:
        """Compute the shares of the client of a request. Requests that repeat its headers have the same ones."""
        self._addresses.warn_of_untrusted_headers(channel.addr[0], headers)
        credential = credential_key(headers)
        if credential != channel.credential:
            self.connections.assign(channel, credential)
        address = self.client_network_of(channel, headers)
        shares = [(("address", address), self._address_share)]
        if credential:
            shares.append((("credential", credential), self._credential_share))
        channel.read_shares = tuple(shares)
        # One address with many tokens leaves a part of the searches to others.
        searches = ((("search", address), self._address_search_share), (_SEARCHES, self._search_share))
        channel.search_shares = (*shares, *searches)
        channel.identified_headers = headers if headers is channel.last_head.headers else None

    def client_network_of(self, channel: Channel, headers: Mapping[str, str]) -> str:
        """Return the address of the client that sent a request with these headers; of an IPv6 address, the network."""
        return channel.network or self._addresses.network(channel.addr[0], headers)

    def wait_for_application(self, channel: Channel) -> None:
        """Resume the parked response of a connection a little later."""
        is_first = not self._waiting.channels
        self._waiting.add(channel)
        if is_first:
            self.pull_trigger()  # the loop may sleep for longer


class StandbyListeners:
    """Listening sockets of other processes by slot, from which this process accepts while those processes are missing.

    Any thread calls `select`. The server calls the other methods.
    """

    def __init__(self, sockets: Mapping[int, Sequence[socket.socket]]) -> None:
        self._sockets = sockets
        self._listeners: dict[int, list[Listener]] = {}
        self._selected: frozenset[int] = frozenset()
        self.has_changed = False
        """True if `apply` must be called."""

    def select(self, slots: Iterable[int]) -> None:
        """Accept from the sockets of these slots, and from no other ones, soon after this call."""
        self._selected = frozenset(slots)
        self.has_changed = True
        for listeners in list(self._listeners.values())[:1]:
            listeners[0].pull_trigger()

    def open(self, make_listener: Callable[[socket.socket], Listener]) -> None:
        """Create a listener for each socket. None accepts connections before it is selected."""
        self._listeners = {slot: [make_listener(each) for each in sockets] for slot, sockets in self._sockets.items()}
        self.apply()

    def apply(self) -> None:
        """Accept from the sockets that are selected now."""
        self.has_changed = False
        selected = self._selected
        for slot, listeners in self._listeners.items():
            for listener in listeners:
                if slot in selected:
                    listener.resume()
                else:
                    listener.pause()

    def close(self) -> None:
        """Accept no more connections, and close the sockets. The other processes keep theirs."""
        listeners, self._listeners = self._listeners, {}
        for listener in (each for slot in listeners.values() for each in slot):
            listener.leave()
