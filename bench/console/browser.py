"""Client of the console: signs in, fetches pages one at a time, and sends forms."""

from __future__ import annotations

import html
import http.client
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from urllib.parse import urlencode

from bench.servers import TIMEOUT_SECONDS, BenchmarkError, Server

__all__ = ["Browser", "Reply"]

BLOCK_BYTES: Final = 1 << 20
POLL_SECONDS: Final = 0.2
MAX_IDLE_SECONDS: Final = 5.0
"""Time after which a request uses a new connection. The server closes connections that are idle for longer."""
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_STATIC_FILE = re.compile(rb'(?:href|src)="(/static/console/[^"]+)"')
_HIDDEN_FIELD = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')


class Reply(NamedTuple):
    """Response with its body as transferred, and the seconds from the request to its last byte."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float


class Browser:
    """Browser of one administrator, on one connection. It accepts gzip, and keeps cookies, but no pages."""

    def __init__(self, server: Server, address: str = "127.0.0.1") -> None:
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", server.port, timeout=TIMEOUT_SECONDS, source_address=(address, 0)
        )
        self._cookies: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._used_at = time.perf_counter()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, path: str) -> Reply:
        """Return the response to a GET."""
        return self._send("GET", path, b"", {})

    def submit(self, page: str, action: str, fields: Mapping[str, str]) -> Reply:
        """Send the form of a page that posts to `action`, with its hidden fields and these."""
        return self.post(action, {**self.hidden_fields(page, action), **fields})

    def post(self, action: str, fields: Mapping[str, str]) -> Reply:
        """Send a form with exactly these fields."""
        return self._send("POST", action, urlencode(fields).encode(), _FORM)

    def redirected(self, page: str, action: str, fields: Mapping[str, str]) -> str:
        """Send a form, and return the path to which the response redirects. Raises BenchmarkError."""
        reply = self.submit(page, action, fields)
        if reply.status != 303:
            raise BenchmarkError(f"POST {action} was answered with {reply.status}: {reply.body[:300]!r}")
        return reply.headers["Location"]

    def sign_in(self, name: str, password: str) -> None:
        """Begin a session. Raises BenchmarkError if the console rejects the password."""
        self.redirected("/login", "/login", {"name": name, "password": password})

    def upload(self, package: Path, mode: str) -> str:
        """Send a package with the upload form, and return the path of its job. `mode` is `import` or `dry_run`."""
        fields = {"mode": mode, "lenient": "yes", "invalid_rows": ""}
        fields |= self.hidden_fields("/imports/upload", "/imports/upload")
        boundary = uuid.uuid4().hex
        head, tail = _form_data(fields, package.name, boundary)
        length = len(head) + package.stat().st_size + len(tail)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(length)}
        with package.open("rb") as file:
            reply = self._send("POST", "/imports/upload", _blocks(head, file, tail), headers)
        if reply.status != 303:
            raise BenchmarkError(f"the upload was answered with {reply.status}: {reply.body[:300]!r}")
        return reply.headers["Location"]

    def is_running(self, job: str) -> bool:
        """Return True if the job with this path is queued or running."""
        return b'"isActive":true' in self.get(f"{job}/progress").body.replace(b" ", b"")

    def wait_for(self, job: str) -> str:
        """Return the last part of the path of the import when the job with this path has ended."""
        end = time.perf_counter() + TIMEOUT_SECONDS
        while self.is_running(job):
            if time.perf_counter() > end:
                raise BenchmarkError(f"the job {job} took more than {TIMEOUT_SECONDS:g} s")
            time.sleep(POLL_SECONDS)
        return self.get(job).headers.get("Location", job).rpartition("/")[2]

    def files_size(self, page: bytes) -> int:
        """Return the bytes that the scripts, styles and icons of a page transfer without a cache."""
        urls = dict.fromkeys(html.unescape(found.decode()) for found in _STATIC_FILE.findall(page))
        for url in urls:
            if url not in self._sizes:
                self._sizes[url] = len(self.get(url).body)
        return sum(self._sizes[url] for url in urls)

    def hidden_fields(self, page: str, action: str) -> dict[str, str]:
        """Return the hidden fields of the form of a page that posts to `action`."""
        text = self.get(page).body.decode()
        forms = re.findall(r"<form[^>]*>.*?</form>", text, re.DOTALL)
        found = [form for form in forms if f'action="{action}"' in form and 'method="post"' in form]
        if not found:
            raise BenchmarkError(f"{page} has no form that posts to {action}")
        return {name: html.unescape(value) for name, value in _HIDDEN_FIELD.findall(found[0])}

    def _send(self, method: str, path: str, body: bytes | Iterator[bytes], headers: Mapping[str, str]) -> Reply:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        sent = {"Accept": "text/html", "Accept-Encoding": "gzip", "Cookie": cookies, **headers}
        started = time.perf_counter()
        if started - self._used_at > MAX_IDLE_SECONDS:
            self._connection.close()  # the next request connects again
        self._connection.request(method, path, body, sent)
        response = self._connection.getresponse()
        content = response.read()
        self._used_at = time.perf_counter()
        seconds = self._used_at - started
        for cookie in response.headers.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        return Reply(response.status, response.headers, content, seconds)


def _form_data(fields: Mapping[str, str], file_name: str, boundary: str) -> tuple[bytes, bytes]:
    """Return the beginning and the end of a form with a file between them."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    file_head = f'Content-Disposition: form-data; name="package"; filename="{file_name}"'
    parts.append(f"--{boundary}\r\n{file_head}\r\nContent-Type: application/zip\r\n\r\n")
    return "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()


def _blocks(head: bytes, file: BinaryIO, tail: bytes) -> Iterator[bytes]:
    yield head
    while block := file.read(BLOCK_BYTES):
        yield block
    yield tail
