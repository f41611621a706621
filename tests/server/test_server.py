"""The server as a process on a real socket: how it listens, what it believes, how it stops."""

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
from tests.support.paths import ROOT

# A WSGI application that answers with what the server made of the request, slowly or at length when asked to.
PROGRAM = """
import os, sys, time
from chalk_flask.server import BindError, serve
from chalk_flask.settings import load

def endless():
    try:
        print("begun", flush=True)
        while True:
            yield b"x" * 65536
    finally:
        print("let go", flush=True)

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
    told = (environ["wsgi.url_scheme"], environ["HTTP_HOST"], environ["REMOTE_ADDR"])
    return [" ".join(told).encode()]

serve(app, load(), lambda url: print(url, flush=True))
print("stopped", flush=True)
"""


class Served:
    """A running server process and the address it told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = self.line()
        self.port = int(self.url.rpartition(":")[2])

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def get(self, path: str = "/", **headers: str) -> str:
        connection = self.connect()
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        body = connection.getresponse().read().decode()
        connection.close()
        return body

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


Start = Callable[..., Served]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def launch(**environ: str) -> Served:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env=clean | {"CHALK_PORT": "0"} | environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return Served(process)

    yield launch
    for process in running:
        process.kill()
        process.communicate()


def test_port_0_takes_a_free_port_and_tells_the_address(start: Start) -> None:
    served = start()
    assert served.url == f"http://127.0.0.1:{served.port}"
    assert served.port > 0
    assert served.get() == f"http 127.0.0.1:{served.port} 127.0.0.1"


def test_a_name_with_several_addresses_is_served_on_one_port(start: Start) -> None:
    served = start(CHALK_HOST="localhost")
    assert served.url == f"http://localhost:{served.port}"
    assert served.get()


def test_an_address_for_every_interface_is_told_as_one_that_can_be_opened(start: Start) -> None:
    served = start(CHALK_HOST="0.0.0.0")
    assert served.url == f"http://127.0.0.1:{served.port}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_at_once_with_exit_code_0(start: Start, number: int) -> None:
    served = start()
    began = time.monotonic()
    assert served.stop(number) == 0
    assert served.line() == "stopped"
    assert time.monotonic() - began < 5


def test_a_request_in_flight_finishes_and_nobody_else_is_let_in(start: Start) -> None:
    served = start()
    connection = served.connect()
    connection.request("GET", "/slow")
    assert served.line() == "slow"
    served.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", served.port), timeout=5):  # noqa: PT011 - refused or reset
        pass
    assert connection.getresponse().read().startswith(b"http ")
    connection.close()
    assert served.process.wait(timeout=20) == 0


def test_an_answer_larger_than_every_buffer_is_sent_whole_after_the_signal(start: Start) -> None:
    served = start()
    connection = served.connect()
    connection.request("GET", "/long")
    assert served.line() == "long"
    served.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert len(connection.getresponse().read()) == 640 * 65536
    connection.close()
    assert served.process.wait(timeout=20) == 0


def test_an_idle_connection_does_not_hold_up_the_stop(start: Start) -> None:
    served = start()
    connection = served.connect()
    connection.request("GET", "/")
    connection.getresponse().read()
    began = time.monotonic()
    assert served.stop() == 0
    assert time.monotonic() - began < 5
    connection.close()


def test_a_second_signal_ends_what_a_stalled_reader_holds(start: Start) -> None:
    served = start()
    connection = served.connect()
    connection.request("GET", "/long")
    assert served.line() == "long"
    served.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert served.process.poll() is None
    assert served.stop() == 0
    connection.close()


def test_a_reader_that_stalls_is_let_go_and_what_it_held_is_closed(start: Start) -> None:
    served = start(CHALK_CHANNEL_TIMEOUT="1")
    with socket.create_connection(("127.0.0.1", served.port)) as reader:
        reader.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert served.line() == "begun"
        assert served.line() == "let go"
    assert served.stop() == 0


def test_nobody_is_believed_about_forwarding_unless_a_proxy_is_trusted(start: Start) -> None:
    told = start().get(X_Forwarded_Proto="https", X_Forwarded_Host="roster.example.org", X_Forwarded_For="192.0.2.1")
    assert told.startswith("http 127.0.0.1:")
    assert told.endswith(" 127.0.0.1")


def test_a_trusted_proxy_is_believed_about_scheme_host_and_client(start: Start) -> None:
    served = start(CHALK_TRUSTED_PROXY="127.0.0.1")
    told = served.get(X_Forwarded_Proto="https", X_Forwarded_Host="roster.example.org", X_Forwarded_For="192.0.2.1")
    assert told == "https roster.example.org 192.0.2.1"


def test_the_server_does_not_say_what_it_is_built_on(start: Start) -> None:
    connection = start().connect()
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.getheader("Server") == "chalk-flask"


def test_a_port_that_is_taken_is_refused_with_what_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BindError, match=rf"host 127.0.0.1, port {port}: Address already in use.*CHALK_PORT"):
            serve(_nothing, load_settings({"port": port}, {}))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "a" * 70, "1.2.3.4.5"])
def test_a_host_that_is_not_ours_is_refused_by_name(host: str) -> None:
    with pytest.raises(BindError, match=f"host {host}, port 0: "):
        serve(_nothing, load_settings({"host": host, "port": 0}, {}))


def entry(tmp_path: Path, **environ: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}
    return subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=clean | {"CHALK_STORAGE": f"sqlite:///{tmp_path}/chalk.db", "CHALK_PORT": "0"} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_python_app_py_serves_the_api_with_settings_from_the_environment(tmp_path: Path) -> None:
    with entry(tmp_path) as process:
        try:
            assert process.stdout
            port = next(match[1] for line in process.stdout if (match := re.search(r"http://127\.0\.0\.1:(\d+)", line)))
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
            connection.request("GET", "/ims/oneroster/v1p1/orgs")
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())["error"]) == (401, "invalid_token")
            connection.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    assert (tmp_path / "chalk.db").exists()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CHALK_HOST", "192.0.2.1", "cannot listen on host 192.0.2.1"),
        ("CHALK_PORT", "high", "port cannot be 'high'"),
        ("CHALK_PROT", "8080", "did you mean CHALK_PORT?"),
        ("CHALK_STORAGE", "redis://db", "no backend for 'redis'"),
    ],
)
def test_python_app_py_says_in_a_line_why_it_cannot_serve(tmp_path: Path, variable: str, value: str, said: str) -> None:
    with entry(tmp_path, **{variable: value}) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said in output
    assert "Traceback" not in output


def test_a_wsgi_server_can_take_the_application_from_app_py(tmp_path: Path) -> None:
    program = "import app; print(app.app.test_client().get('/ims/oneroster/v1p1/orgs').status_code)"
    environ = os.environ | {"CHALK_STORAGE": f"sqlite:///{tmp_path}/chalk.db"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("401\n", "")


def _nothing(*_: object) -> list[bytes]:
    raise AssertionError("nothing is asked of it")


@pytest.mark.parametrize("target", ["/?filter=familyName='M\u00fcller'", "/?filter=name='x y'"])
def test_raw_blanks_and_letters_in_a_url_are_read(start: Start, target: str) -> None:
    served = start()
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
    assert served.stop() == 0


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "400"),
    ],
)
def test_what_is_not_http_is_refused_in_json(start: Start, request_: bytes, status: str) -> None:
    served = start()
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(request_)
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.split()[1] == status.encode()
    assert b"Content-Type: application/json" in head
    assert json.loads(body)["statusInfoSet"][0]["imsx_codeMajor"] == "failure"
    assert served.stop() == 0
