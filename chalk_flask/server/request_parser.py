"""Parser of requests: it accepts unescaped targets and rejects other invalid requests with a JSON error."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
from waitress.buffers import OverflowableBuffer
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.task import ErrorTask
from waitress.utilities import BadRequest, Error, RequestEntityTooLarge, RequestHeaderFieldsTooLarge

from chalk_flask.logs import REQUEST_ID_HEADER, request_id_of
from chalk_flask.server.large_bodies import Admission, DroppingReceiver

__all__ = [
    "ERROR_HEADERS",
    "RETRY_AFTER_SECONDS",
    "JsonErrorTask",
    "LastHead",
    "OverloadError",
    "Parser",
    "error_body",
]

MAX_BLANKS = 128
"""Maximum number of blanks in sequence in a head. waitress needs quadratic time for the blanks before a value."""
MAX_BLANK_BYTES = 32
"""Maximum size of the blank lines before a request (RFC 9112, section 2.2). waitress parses each as a request."""
MAX_LENGTH_DIGITS = 18
MAX_HEADERS = 100
"""Maximum number of headers. The server loop, which serves all clients, needs 10 microseconds for each."""
MAX_SMALL_CHUNKS = 256
MIN_CHUNK_BYTES = 256
"""Average size that chunks beyond MAX_SMALL_CHUNKS must have, for the same reason."""
MAX_KEPT_BYTES = 4096
"""Maximum size of the headers that an idle connection keeps in memory."""
RETRY_AFTER_SECONDS = "5"
ERROR_HEADERS = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
)

_ALLOWED_IN_HEAD = bytes([0x09, 0x0A, 0x0D, *range(0x20, 0x7F), *range(0x80, 0x100)])
_UNESCAPED = re.compile(rb"[ \x80-\xff]")
_VERSIONS = (b" HTTP/1.1", b" HTTP/1.0")
_TARGET = re.compile(rb"[^ ]+ (?:/|https?://|\* )", re.IGNORECASE)
"""Method and start of a target: a path, an absolute URL, or an asterisk (RFC 9112, section 3.2)."""
_READ_LINE = re.compile(r"(GET|HEAD) ((/(?!/)[!-\"$&->@-~]*)(?:\?([!-\"$-~]*))?) HTTP/1\.1")
"""Request line of most reads: method, target, path and query. It is a line that needs no decoding or escaping."""


class LastHead:
    """Headers of the last valid request on a connection that had no body.

    Most clients repeat them byte by byte, so they are parsed and checked once.
    """

    __slots__ = ("end", "headers")

    def __init__(self) -> None:
        self.end = b""
        """Bytes from the end of the request line to the end of the head; empty if the head is not kept."""
        self.headers: dict[str, str] = {}
        """Parsed headers. All requests that repeat them share this object, and none changes it."""

    def keep(self, end: bytes, headers: dict[str, str]) -> None:
        """Keep the headers of a request, unless they are large."""
        if len(end) <= MAX_KEPT_BYTES:
            self.end, self.headers = end, headers


class Parser(HTTPRequestParser):
    """Parser that accepts unescaped blanks and non-ASCII bytes in the target: `?filter=familyName='Müller'`.

    It is stricter than waitress where a proxy and this server could disagree about the request or its end.
    """

    reason = ""
    """Reason why the request is invalid, for the client. It quotes nothing from the request."""
    command = path = query = fragment = proxy_scheme = proxy_netloc = ""  # type: ignore[assignment]  # not bytes
    """Parts of the request line, which are empty if it cannot be parsed."""
    _blank_bytes = 0
    _has_too_many_headers = False

    body_rcv: Any
    headers: dict[str, str]
    admission: Admission | None = None
    """Admission of a large body."""

    def __init__(
        self,
        adj: Any,
        last: LastHead | None = None,
        admit: Callable[[Parser], Admission | None] | None = None,
    ) -> None:
        super().__init__(adj)
        self._last = last
        self._admit = admit
        self.started = time.monotonic()
        """Time of the first byte, or time from which the client can send more."""

    @property
    def has_begun(self) -> bool:
        """True if a byte of the request has arrived; blank lines do not count."""
        return self.headers_finished or bool(self.header_plus.strip())

    def received(self, data: bytes) -> int:
        """Parse data and return the number of bytes that belong to this request."""
        last = self._last
        if last and last.end and data.endswith(last.end) and self._repeats_headers(data, last):
            return len(data)
        blank_bytes = 0
        if not self.header_plus and not self.headers_finished and data[:1].isspace():
            content = data.lstrip()
            blank_bytes = len(data) - len(content)
            self._blank_bytes += blank_bytes
            if self._blank_bytes > MAX_BLANK_BYTES:
                self.reason = f"more than {MAX_BLANK_BYTES} blank bytes are before it"
                self.error = BadRequest(self.reason)
                self.completed = True
                return len(data)
            if not content:
                return blank_bytes
            data = content
        try:
            consumed = blank_bytes + super().received(data)
        except _TooManyChunksError:
            self.reason = (
                f"it has more than {MAX_SMALL_CHUNKS} chunks, with less than {MIN_CHUNK_BYTES} bytes on average"
            )
            self.error = BadRequest(self.reason)
            self.completed = True
            return blank_bytes + len(data)
        except OSError as error:
            consumed = blank_bytes + self._drop_rest(data, error)
        if isinstance(self.error, RequestEntityTooLarge):
            self._admit_large_body()
        if self._has_too_many_headers:
            self.error = RequestHeaderFieldsTooLarge(self.reason)
        if self.completed:
            # waitress would wait for a body that does not exist, or that is rejected already.
            self.expect_continue = False
        return consumed

    def close(self) -> None:
        """Close the file of the body."""
        super().close()
        if self.admission:
            self.admission.release()

    def _admit_large_body(self) -> None:
        """Receive the body although it is larger than others, if its length is known and the application accepts it."""
        if self.chunked:
            self.reason = "a body of more than 1 MiB requires a Content-Length, if it is allowed at all"
        if self.chunked or self.body_bytes_received:
            return
        self.admission = self._admit(self) if self._admit else None
        if self.admission is None:
            return
        self.error, self.completed = None, False
        self.adj = copy.copy(self.adj)
        self.adj.max_request_body_size = self.content_length + 1
        if self.admission.rejection:
            self.headers["CONTENT_LENGTH"] = "0"
            self.body_rcv = DroppingReceiver(self.content_length, self.body_rcv.getbuf())
            # A client that waits for a permission to send the body reads the response first.
            if self.expect_continue:
                self.completed, self.headers["CONNECTION"] = True, "close"

    def _drop_rest(self, data: bytes, error: OSError) -> int:
        """Drop the body because it cannot be written, so that the application answers. Return the bytes of the body.

        Raises the error again if the body is not a large one.
        """
        if self.admission is None:
            raise error
        self.admission.rejection = "disk_full"
        self.headers["CONTENT_LENGTH"] = "0"
        remaining = self.body_rcv.remain
        with suppress(OSError):  # closing writes what is buffered, for which the disk has no space either
            self.body_rcv.getbuf().close()
        self.body_rcv = DroppingReceiver(remaining, OverflowableBuffer(self.adj.inbuf_overflow))
        consumed: int = self.body_rcv.received(data)
        self.body_bytes_received += consumed
        self.completed = self.body_rcv.completed
        return consumed

    def _repeats_headers(self, data: bytes, last: LastHead) -> bool:
        """Parse a read whose headers are those of the last request. Return False if data is anything else.

        A request line contains no line break, so data is one request. The checks of its headers have passed before.
        """
        match = _READ_LINE.fullmatch(data[: -len(last.end)].decode("latin-1"))
        is_first = not (self.header_plus or self.headers_finished or self.completed)
        if match is None or not is_first or len(data) >= self.adj.max_request_header_size:
            return False
        self.command, self.request_uri, self.path, query = match.groups()
        self.query = query or ""
        self.version, self.url_scheme, self.headers = "1.1", self.adj.url_scheme, last.headers
        self.header_bytes_received = len(data)
        self.headers_finished = self.completed = True
        return True

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the request line and the headers. Raises ParsingError."""
        self._check_bytes(header_plus)
        line, end, headers = header_plus.partition(b"\r\n")
        line = line.rstrip(b" \t")
        if not line.endswith(_VERSIONS):
            self._reject("the request line must end with HTTP/1.1 or HTTP/1.0")
        if b"\t" in line:
            self._reject("the request line contains a tab")
        if not _TARGET.match(line):
            self._reject("its target must begin with a slash, or be an absolute URL")
        if headers.count(b"\r\n") > MAX_HEADERS + 1:  # the last one ends the head
            self._has_too_many_headers = True
            self._reject(f"it has more than {MAX_HEADERS} headers")
        lowered = headers.lower()
        if b"transfer-encoding" in lowered:
            self._check_transfer_encoding(lowered, line)
        try:
            super().parse_header(_escape_target(line) + end + headers)
        except ParsingError:
            raise
        except ValueError:  # an address in brackets that is not IPv6, or a Content-Length of thousands of digits
            self._check_headers()
            self._reject("its target is invalid")
        self._check_headers()
        if isinstance(self.body_rcv, ChunkedReceiver):
            self.body_rcv = _CountingReceiver(self.body_rcv.getbuf())
        has_body = self.body_rcv is not None or self.expect_continue
        if self._last and self.version == "1.1" and not (has_body or self.connection_close):
            self._last.keep(end + headers, self.headers)

    def _check_bytes(self, head: bytes) -> None:
        if head.translate(None, _ALLOWED_IN_HEAD):
            self._reject("its head contains a control character")
        blanks = head.replace(b"\t", b" ")
        if b"\r\n " in blanks:
            self._reject("a header is folded: send it in one line")
        if b" " * MAX_BLANKS in blanks:
            self._reject(f"its head contains {MAX_BLANKS} blanks in sequence")

    def _check_transfer_encoding(self, headers: bytes, line: bytes) -> None:
        """Raise ParsingError unless there is one Transfer-Encoding, `chunked`, and no Content-Length.

        A proxy and this server could disagree where any other request ends (request smuggling, RFC 9112, section 6.1).
        """
        fields = [field.partition(b":") for field in headers.split(b"\r\n")]
        encodings = [value.strip(b" \t") for name, _, value in fields if name.strip(b" \t") == b"transfer-encoding"]
        if encodings and any(name.strip(b" \t") == b"content-length" for name, _, _ in fields):
            self._reject("it has both Content-Length and Transfer-Encoding")
        if encodings and (encodings != [b"chunked"] or not line.endswith(b"1.1")):
            self._reject("Transfer-Encoding must be chunked, once, in HTTP/1.1")

    def _check_headers(self) -> None:
        host = self.headers.get("HOST")
        if host is None and self.version == "1.1":
            self._reject("the Host header is missing")
        if host is not None and "," in host:  # waitress joins repeated headers with a comma
            self._reject("the Host header is repeated or invalid")
        if len(self.headers.get("CONTENT_LENGTH", "")) > MAX_LENGTH_DIGITS:
            self._reject("its Content-Length is invalid")

    def _reject(self, reason: str) -> None:
        self.reason = reason
        raise ParsingError(reason)


class _TooManyChunksError(Exception):
    """Error for a body with too many small chunks."""


class _CountingReceiver(ChunkedReceiver):
    """Receiver of a chunked body that counts the lines before chunks, and blank ones. Raises _TooManyChunksError."""

    _unfinished_line = b""
    _line_count = 0

    @property
    def control_line(self) -> bytes:
        """Unfinished line before a chunk. waitress empties it when the line is finished."""
        return self._unfinished_line

    @control_line.setter
    def control_line(self, value: bytes) -> None:
        if not value:
            self._line_count += 1
            if self._line_count > MAX_SMALL_CHUNKS + 1 + len(self) // MIN_CHUNK_BYTES:  # one precedes the end
                raise _TooManyChunksError
        self._unfinished_line = value


def _escape_target(line: bytes) -> bytes:
    method, _, rest = line.partition(b" ")
    target, _, version = rest.rpartition(b" ")
    if not target or not _UNESCAPED.search(target):
        return line
    return b"%s %s %s" % (method, _UNESCAPED.sub(lambda match: b"%%%02X" % match[0][0], target), version)


class OverloadError(Error):
    """Error for a request that no thread could serve in time."""

    code = 503
    reason = "Service Unavailable"


class JsonErrorTask(ErrorTask):
    """Error response, in the JSON format of the API, to a request that cannot be parsed or served."""

    def execute(self) -> None:
        """Send the error and close the connection."""
        request: Any = self.request
        status, _, _ = request.error.to_response(self.channel.server.adj.ident)
        self.status = status
        self.response_headers = [*ERROR_HEADERS, (REQUEST_ID_HEADER, _request_id(request.headers))]
        if status.startswith("503"):
            self.response_headers.append(("Retry-After", RETRY_AFTER_SECONDS))
        body = error_body(status, request.reason)
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


def _request_id(headers: Mapping[str, str]) -> str:
    """Return the id of a request with these headers, which no application has answered."""
    names = {"HTTP_X_REQUEST_ID": "X_REQUEST_ID", "HTTP_AUTHORIZATION": "AUTHORIZATION"}
    return request_id_of({key: headers[name] for key, name in names.items() if name in headers})


def error_body(status: str, reason: str = "") -> bytes:
    """Return the JSON body of an error with a status line such as `400 Bad Request`."""
    match status[:1], status[:3]:
        case _, "503":
            error, minor = "server_busy", "server_busy"
            message = "The server is busy. Try again later."
        case "5", _:
            error, minor = "server_error", "internal_server_error"
            message = f"The server failed ({status}). Its log has the details."
        case _:
            error, minor = "invalid_data", "invalid data"
            message = f"The server cannot parse this request ({status}){': ' + reason if reason else ''}."
    entry = {
        "imsx_codeMajor": "failure",
        "imsx_severity": "error",
        "imsx_description": message,
        "imsx_codeMinor": minor,
    }
    return orjson.dumps({"error": error, "message": message, "statusInfoSet": [entry]})
