"""Server processes on real sockets: addresses, trusted headers, shutdown and invalid requests."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chalk_flask.server import BindError, serve
from chalk_flask.settings import load_settings
from tests.support.deliveries import wait_until
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

# WSGI application that returns scheme, host and client address of the request; /slow, /long and /endless take longer.
PROGRAM = """
import os, sys, time
from chalk_flask.server import BindError, serve
from chalk_flask.settings import load_settings

def endless():
    try:
        print("begun", flush=True)
        while True:
            yield b"x" * 65536
    finally:
        print("closed", flush=True)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/slow":
        print("slow", flush=True)
        time.sleep(1.5)
    if path == "/endless":
        return endless()
    if path == "/long":
        print("long", flush=True)
        return (b"x" * 65536 for _ in range(640))
    values = (environ["wsgi.url_scheme"], environ["HTTP_HOST"], environ["REMOTE_ADDR"])
    return [" ".join(values).encode()]

serve(app, load_settings(), lambda url: print(url, flush=True))
print("stopped", flush=True)
"""


class ServerProcess:
    """Running server process and the URL that it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = self.line()
        self.port = int(self.url.rpartition(":")[2])

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def get(self, path: str = "/", **headers: str) -> str:
        connection = self.connect()
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        body = connection.getresponse().read().decode()
        connection.close()
        return body

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


Start = Callable[..., ServerProcess]


def launch(**environ: str) -> ServerProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=environment | {"CHALK_PORT": "0"} | environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    return ServerProcess(process)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """Server with the default settings that no test of this module stops."""
    started = launch()
    yield started
    started.process.kill()
    started.process.communicate()


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[ServerProcess] = []

    def start_one(**environ: str) -> ServerProcess:
        running.append(launch(**environ))
        return running[-1]

    yield start_one
    for server in running:
        server.process.kill()
        server.process.communicate()


def test_port_0_chooses_a_free_port_and_reports_its_url(server: ServerProcess) -> None:
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert server.port > 0
    assert server.get() == f"http 127.0.0.1:{server.port} 127.0.0.1"


def test_host_with_several_addresses_is_served_on_one_port(start: Start) -> None:
    served = start(CHALK_HOST="localhost")
    assert served.url == f"http://localhost:{served.port}"
    assert served.get()


def test_url_of_every_interface_is_one_that_clients_can_open(start: Start) -> None:
    served = start(CHALK_HOST="0.0.0.0")
    assert served.url == f"http://127.0.0.1:{served.port}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_server_with_exit_code_0(start: Start, number: int) -> None:
    served = start()
    began = time.monotonic()
    assert served.stop(number) == 0
    assert served.line() == "stopped"
    assert time.monotonic() - began < 25, "active requests have 30 s to finish"


def test_shutdown_finishes_active_requests_and_accepts_no_other(start: Start) -> None:
    served = start()
    connection = served.connect()
    connection.request("GET", "/slow")
    assert served.line() == "slow"
    served.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not _accepts_connections(served.port))
    assert connection.getresponse().read().startswith(b"http ")
    connection.close()
    assert served.process.wait(timeout=60) == 0


def _accepts_connections(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:  # either refused or reset
        return False


def test_shutdown_completes_a_large_response(start: Start) -> None:
    served = start()
    connection = served.connect()
    connection.request("GET", "/long")
    assert served.line() == "long"
    served.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert len(connection.getresponse().read()) == 640 * 65536
    connection.close()
    assert served.process.wait(timeout=60) == 0


def test_idle_connection_does_not_delay_shutdown(start: Start) -> None:
    served = start()
    connection = served.connect()
    connection.request("GET", "/")
    connection.getresponse().read()
    began = time.monotonic()
    assert served.stop() == 0
    assert time.monotonic() - began < 25, "active requests have 30 s to finish"
    connection.close()


def test_second_signal_closes_connections_of_stalled_clients(start: Start) -> None:
    served = start()
    connection = served.connect()
    connection.request("GET", "/long")
    assert served.line() == "long"
    served.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert served.process.poll() is None
    assert served.stop() == 0
    connection.close()


def test_stalled_client_is_disconnected_and_its_response_closed(start: Start) -> None:
    served = start(CHALK_SEND_TIMEOUT="1")
    with socket.create_connection(("127.0.0.1", served.port)) as reader:
        reader.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert served.line() == "begun"
        assert served.line() == "closed"
    assert served.stop() == 0


def test_forwarded_headers_are_ignored_without_a_trusted_proxy(server: ServerProcess) -> None:
    values = server.get(X_Forwarded_Proto="https", X_Forwarded_Host="roster.example.org", X_Forwarded_For="192.0.2.1")
    assert values.startswith("http 127.0.0.1:")
    assert values.endswith(" 127.0.0.1")


def test_trusted_proxy_sets_scheme_host_and_client(start: Start) -> None:
    served = start(CHALK_TRUSTED_PROXY="127.0.0.1")
    values = served.get(X_Forwarded_Proto="https", X_Forwarded_Host="roster.example.org", X_Forwarded_For="192.0.2.1")
    assert values == "https roster.example.org 192.0.2.1"


def test_server_header_does_not_name_the_library(server: ServerProcess) -> None:
    connection = server.connect()
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.getheader("Server") == "chalk-flask"


def test_port_in_use_is_an_error_that_names_the_settings() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(BindError, match=rf"host 127.0.0.1, port {port}: Address already in use.*CHALK_PORT"):
            serve(_nothing, load_settings({"port": port}, {}))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "a" * 70, "1.2.3.4.5"])
def test_foreign_host_is_an_error_that_quotes_it(host: str) -> None:
    with pytest.raises(BindError, match=f"host {host}, port 0: "):
        serve(_nothing, load_settings({"host": host, "port": 0}, {}))


def run_app_py(tmp_path: Path, **environ: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}
    return subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=environment | {"CHALK_STORAGE": f"sqlite:///{tmp_path}/chalk.db", "CHALK_PORT": "0"} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_app_py_serves_the_api_with_environment_settings(tmp_path: Path) -> None:
    with run_app_py(tmp_path) as process:
        try:
            assert process.stdout
            port = next(match[1] for line in process.stdout if (match := re.search(r"http://127\.0\.0\.1:(\d+)", line)))
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
            connection.request("GET", "/ims/oneroster/v1p1/orgs")
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())["error"]) == (401, "invalid_token")
            connection.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    assert (tmp_path / "chalk.db").exists()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CHALK_HOST", "192.0.2.1", "cannot listen on host 192.0.2.1"),
        ("CHALK_PORT", "high", "port cannot be 'high'"),
        ("CHALK_STORAGE", "redis://db", "no backend for 'redis'"),
    ],
)
def test_app_py_prints_why_it_cannot_serve(tmp_path: Path, variable: str, value: str, message: str) -> None:
    with run_app_py(tmp_path, **{variable: value}) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == (2 if variable == "CHALK_PORT" else 1)
    assert message in output
    assert "Traceback" not in output


def test_app_py_exports_the_wsgi_application(tmp_path: Path) -> None:
    program = "import app; print(app.app.test_client().get('/ims/oneroster/v1p1/orgs').status_code)"
    environ = os.environ | {"CHALK_STORAGE": f"sqlite:///{tmp_path}/chalk.db"}
    completed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60
    )
    assert completed.stdout == "401\n"
    assert "Traceback" not in completed.stderr


def _nothing(*_: object) -> list[bytes]:
    raise AssertionError("it receives no request")


@pytest.mark.parametrize("target", ["/?filter=familyName='M\u00fcller'", "/?filter=name='x y'"])
def test_unescaped_blanks_and_letters_in_a_url_are_accepted(server: ServerProcess, target: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "400"),
    ],
)
def test_invalid_request_is_rejected_with_a_json_error(server: ServerProcess, request_: bytes, status: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(request_)
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.split()[1] == status.encode()
    assert b"Content-Type: application/json" in head
    assert json.loads(body)["statusInfoSet"][0]["imsx_codeMajor"] == "failure"
