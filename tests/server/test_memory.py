"""Memory of the service while several clients request records that are as large as the body of a request can be."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from chalk_flask import create_app
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS
from tests.support.roster_writes import write_rows
from tests.support.server_process import ServerProcess, send_get, server_process
from tests.support.small_roster import fill, line_item

APP = """
from chalk_flask import create_app
app = create_app()
"""
CLIENTS = 8
"""Number of clients that request the same page at once, which is the cap on the streams of a credential."""
RECORDS, RECORD_BYTES = 24, 1_000_000
MAX_GROWTH_BYTES = CLIENTS * 28 * 2**20
"""Memory that all responses together may take: 28 MiB for each. A whole page has 23 MiB, in several copies."""
PAUSE_SECONDS = 1.0
"""Time for which the clients read nothing, so that all responses are in progress at once."""


class LargeStore(NamedTuple):
    """Served store with large line items, and tokens without and with restrictions."""

    server: ServerProcess
    token: str
    restricted: str


@pytest.fixture(scope="module")
def large_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LargeStore]:
    folder = tmp_path_factory.mktemp("large")
    storage = f"sqlite:///{folder}/chalk.db"
    app = create_app(storage=storage, data=str(folder / "data"))
    fill(services_of(app).store)
    text = "x" * RECORD_BYTES
    for number in range(RECORDS):
        item = line_item(f"big-{number}", "c-1", "cat-1", description=text, metadata={"note": "n", "other": "o"})
        write_rows(app, {"lineItems": [item]})
    tokens = services_of(app).tokens
    token, _ = tokens.create("all", ALL)
    restrictions = AccessRestrictions(classes=frozenset({"c-1"}), redacted=frozenset({"metadata.note"}))
    restricted, _ = tokens.create("restricted", ALL, restrictions=restrictions)
    services_of(app).store.close()
    settings = {"CHALK_STORAGE": storage, "CHALK_DATA": str(folder / "data"), "CHALK_QUERY_MILLISECONDS": "30000"}
    with server_process(APP, **settings) as server:
        yield LargeStore(server, token or "", restricted or "")


def receive(connection: socket.socket) -> tuple[bytes, int, bytes]:
    """Return the beginning of a response, the number of its bytes, and its end, without holding the rest."""
    head = connection.recv(64)
    count, end = len(head), head
    while part := connection.recv(1 << 18):
        count, end = count + len(part), (end + part)[-64:]
    return head, count, end


def request_at_once(server: ServerProcess, path: str, token: str) -> list[tuple[bytes, int, bytes]]:
    """Return what all clients receive; they begin to read after a pause."""
    connections = [server.connect(buffer=4096) for _ in range(CLIENTS)]
    for connection in connections:
        connection.settimeout(60)
        send_get(connection, path, f"Authorization: Bearer {token}", "Connection: close")
    time.sleep(PAUSE_SECONDS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        received = list(pool.map(receive, connections))
    for connection in connections:
        connection.close()
    return received


def memory(server: ServerProcess, name: str) -> int:
    """Return a value of the process status in bytes: VmRSS is its memory, VmHWM the peak of that."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


def peak_growth(server: ServerProcess, path: str, token: str) -> tuple[int, list[tuple[bytes, int, bytes]]]:
    """Return the bytes by which the memory of the server grew at most during the requests, and what they received."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak starts again at the present value
    before = memory(server, "VmRSS")
    received = request_at_once(server, path, token)
    return memory(server, "VmHWM") - before, received


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak is read from /proc of Linux")
@pytest.mark.parametrize(
    ("path", "is_restricted"),
    [
        (f"{IMS}/lineItems?limit=10000", False),
        (f"{IMS}/classes/c-1/lineItems?limit=500&filter=status='active'", True),
        (f"{CHALK}/lineItems?sort=dateLastModified&orderBy=desc", False),
        (f"{IMS}/lineItems?limit=10000&fields=sourcedId,description,metadata", True),
    ],
)
def test_large_records_are_not_all_in_memory_at_once(large_store: LargeStore, path: str, is_restricted: bool) -> None:
    token = large_store.restricted if is_restricted else large_store.token
    growth, received = peak_growth(large_store.server, path, token)
    for head, count, end in received:
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert count > RECORDS * RECORD_BYTES
        assert end.endswith(b"0\r\n\r\n"), end
    assert growth < MAX_GROWTH_BYTES, f"{growth / 2**20:.0f} MiB"


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak is read from /proc of Linux")
@pytest.mark.reading("F-07")
def test_change_feed_holds_few_large_records(large_store: LargeStore) -> None:
    growth, received = peak_growth(large_store.server, f"{CHALK}/changes?since=1&limit=10000", large_store.token)
    for head, count, _ in received:
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert RECORD_BYTES < count < 3 * RECORD_BYTES
    assert growth < MAX_GROWTH_BYTES, f"{growth / 2**20:.0f} MiB"
