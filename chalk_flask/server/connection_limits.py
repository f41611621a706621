"""Open connections: their deadlines for receiving and sending, and the order in which they are closed to make room."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from chalk_flask.server.request_parser import ERROR_HEADERS, RETRY_AFTER_SECONDS, error_body

if TYPE_CHECKING:
    from chalk_flask.server.connection_channel import Channel
    from chalk_flask.server.request_parser import Parser
    from chalk_flask.settings import Settings

__all__ = ["Connections"]

log = logging.getLogger(__name__)

MAX_EXTRA_FRACTION = 1 / 32
"""Part of a crowded group that is closed beyond its excess, so that a flood of connections costs less."""

Group: TypeAlias = tuple[str, str]
"""Kind and key of connections that are counted together: all, those of an address, or those of a credential."""

_ALL: Group = ("all", "")


class Connections:
    """All open connections. Adding and removing is thread-safe; the server loop calls the other methods."""

    def __init__(self, settings: Settings, limit: int) -> None:
        self._settings = settings
        self._limits = {
            "all": limit,
            "address": settings.connection_limit_address,
            "credential": settings.connection_limit_credential,
        }
        self._lock = threading.Lock()
        self._groups: dict[Group, set[Channel]] = {}
        self.crowded: set[Group] = set()
        """Groups that are larger than their limit. If there are any, call `make_room`."""

    def add(self, channel: Channel) -> None:
        """Count a connection. That of a trusted proxy does not count for its address."""
        with self._lock:
            self._join(_ALL, channel)
            if channel.network:
                self._join(("address", channel.network), channel)

    def remove(self, channel: Channel) -> None:
        """Stop counting a connection; does nothing if it is not counted."""
        with self._lock:
            self._leave(_ALL, channel)
            self._leave(("address", channel.network), channel)
            self._leave(("credential", channel.credential), channel)

    def assign(self, channel: Channel, credential: str) -> None:
        """Count a connection for the credential of its last request, and no longer for the one before."""
        with self._lock:
            self._leave(("credential", channel.credential), channel)
            channel.credential = credential
            if credential and channel in self._groups.get(_ALL, ()):
                self._join(("credential", credential), channel)

    def make_room(self) -> None:
        """Close connections of groups that are larger than their limit: first those without a successful request."""
        with self._lock:
            crowded = [(group, list(self._groups.get(group, ()))) for group in self.crowded]
            self.crowded.clear()
        for (kind, _), channels in crowded:
            self._close_first(channels, len(channels) - self._limits[kind])

    def free_descriptors(self) -> None:
        """Close a few connections because the process has no file descriptor left."""
        with self._lock:
            channels = list(self._groups.get(_ALL, ()))
        self._close_first(channels, 1)

    def close_overdue(self) -> None:
        """Close connections that have missed a deadline."""
        now = time.monotonic()
        with self._lock:
            channels = list(self._groups.get(_ALL, ()))
        closed: Counter[str] = Counter()
        for channel in channels:
            if missed := self._missed_deadline(channel, now):
                _reject(channel, "408 Request Timeout")
                closed[missed] += 1
        if closed:
            log.info("closed connections that missed a deadline: %s", dict(closed))

    def _join(self, group: Group, channel: Channel) -> None:
        channels = self._groups.setdefault(group, set())
        channels.add(channel)
        if len(channels) > self._limits[group[0]]:
            self.crowded.add(group)

    def _leave(self, group: Group, channel: Channel) -> None:
        channels = self._groups.get(group)
        if channels is not None:
            channels.discard(channel)
            if not channels:
                del self._groups[group]

    def _close_first(self, channels: list[Channel], excess: int) -> None:
        if excess <= 0:
            return
        now = time.monotonic()
        ranked = [(rank, channel) for channel in channels if (rank := self._rank(channel, now)) is not None]
        ranked.sort(key=lambda entry: entry[0])
        end = excess + int(len(channels) * MAX_EXTRA_FRACTION)
        closing = ranked[:excess] + [entry for entry in ranked[excess:end] if entry[0][0] == 0]
        for _, channel in closing:
            _reject(channel, "503 Service Unavailable")
        log.info("closed %d of %d connections to make room for others", len(closing), len(channels))

    def _rank(self, channel: Channel, now: float) -> tuple[int, float] | None:
        """Return the place of a connection in the order of closing, or None if the server works on its request."""
        if channel.total_outbufs_len:
            is_slow = now - channel.last_sent > self._settings.send_timeout / 4
            return (3, channel.last_sent) if is_slow else None
        if channel.requests:
            return None
        if not channel.has_succeeded:
            return (0, channel.idle_since)
        if (request := channel.request) is not None and request.has_begun:
            return (2, request.started)
        return (1, channel.idle_since)

    def _missed_deadline(self, channel: Channel, now: float) -> str:
        """Return the setting whose time is over, or an empty text."""
        settings = self._settings
        if channel.total_outbufs_len:
            if now - channel.last_sent > settings.send_timeout:
                return "send_timeout"
            is_too_long = channel.sending_since and now - channel.sending_since > settings.stream_seconds
            return "stream_seconds" if is_too_long else ""
        if channel.requests:
            return ""
        request = channel.request
        if request is not None and request.has_begun:
            return self._missed_receiving(request, now - max(request.started, channel.last_sent))
        seconds, name = settings.head_timeout, "head_timeout"
        if channel.response_count:
            seconds, name = settings.channel_timeout, "channel_timeout"
        return name if now - max(channel.idle_since, channel.last_sent) > seconds else ""

    def _missed_receiving(self, request: Parser, seconds: float) -> str:
        """Return the setting whose time is over for a request that has been arriving for so many seconds."""
        settings = self._settings
        if not request.headers_finished:
            return "head_timeout" if seconds > settings.head_timeout else ""
        is_upload = request.admission is not None and not request.admission.rejection and settings.body_min_rate > 0
        if not is_upload and seconds > settings.head_timeout + settings.body_timeout:
            return "body_timeout"
        expected_bytes = settings.body_min_rate * (seconds - settings.head_timeout)
        return "body_min_rate" if request.body_bytes_received < expected_bytes else ""


def _reject(channel: Channel, status: str) -> None:
    """Close a connection. If its client has begun a request and expects a response, send an error before."""
    request = channel.request
    if request is not None and request.has_begun and not channel.requests and not channel.total_outbufs_len:
        body = error_body(status)
        length = ("Content-Length", str(len(body)))
        headers = (*ERROR_HEADERS, ("Retry-After", RETRY_AFTER_SECONDS), length, ("Connection", "close"))
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "", ""]
        with suppress(OSError):
            channel.socket.send("\r\n".join(lines).encode() + body)
    channel.handle_close()
