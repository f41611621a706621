"""Requests that are not quite HTTP: what is clear is read, the rest is refused in our own words."""

from __future__ import annotations

import re
from typing import Any

import orjson
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask

from chalk_flask.server.channel import SendingChannel, Task

__all__ = ["Channel"]

_RAW = re.compile(rb"[^\x21-\x7e]")
_LENGTH = re.compile(rb"(?i)\ncontent-length[ \t]*:")
_TRANSFER = re.compile(rb"(?i)\ntransfer-encoding[ \t]*:")


class Parser(HTTPRequestParser):
    """Takes raw blanks and bytes beyond ASCII in the target, as in `?filter=familyName='Müller'`, for escaped ones."""

    def parse_header(self, header_plus: bytes) -> None:
        """Read the request line and the headers."""
        line, end, headers = header_plus.partition(b"\r\n")
        if _TRANSFER.search(header_plus) and _LENGTH.search(header_plus):
            # Two readers may see two ends of such a request: what one takes for its body is the next to the other.
            raise ParsingError("Content-Length and Transfer-Encoding are both given")
        super().parse_header(_escaped(line.rstrip()) + end + headers)


def _escaped(line: bytes) -> bytes:
    method, _, rest = line.partition(b" ")
    target, _, version = rest.rpartition(b" ")
    if not target or not version.startswith(b"HTTP/") or not _RAW.search(target):
        return line
    return b"%s %s %s" % (method, _RAW.sub(lambda raw: b"%%%02X" % raw[0][0], target), version)


class JsonErrorTask(ErrorTask):
    """A request that never reached the application is refused in the body that the application uses."""

    def execute(self) -> None:
        """Send the refusal and close the connection."""
        request: Any = self.request
        status, _, _ = request.error.to_response(self.channel.server.adj.ident)
        failed = status.startswith("5")
        message = f"The request is not one that this server reads ({status})."
        entry = {
            "imsx_codeMajor": "failure",
            "imsx_severity": "error",
            "imsx_description": message,
            "imsx_codeMinor": "internal_server_error" if failed else "invalid data",
        }
        error = "server_error" if failed else "invalid_data"
        body = orjson.dumps({"error": error, "message": message, "statusInfoSet": [entry]})
        self.status = status
        self.response_headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(SendingChannel):
    """A connection with these two."""

    task_class: Any = Task

    parser_class: Any = Parser
    error_task_class: Any = JsonErrorTask
