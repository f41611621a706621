"""Parser of requests: it accepts unescaped targets and rejects other invalid requests with a JSON error."""

from __future__ import annotations

import re
from typing import Any

import orjson
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask

from chalk_flask.server.channel import SendingChannel, Task

__all__ = ["Channel"]

_UNESCAPED = re.compile(rb"[^\x21-\x7e]")
_CONTENT_LENGTH = re.compile(rb"(?i)\ncontent-length[ \t]*:")
_TRANSFER_ENCODING = re.compile(rb"(?i)\ntransfer-encoding[ \t]*:")


class Parser(HTTPRequestParser):
    """Parser that accepts unescaped blanks and non-ASCII bytes in the target: `?filter=familyName='Müller'`."""

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the request line and the headers. Raises ParsingError."""
        line, end, headers = header_plus.partition(b"\r\n")
        if _TRANSFER_ENCODING.search(header_plus) and _CONTENT_LENGTH.search(header_plus):
            # A proxy and this server could disagree where the request ends (request smuggling, RFC 9112, section 6.1).
            raise ParsingError("the request has both Content-Length and Transfer-Encoding")
        super().parse_header(_escape_target(line.rstrip()) + end + headers)


def _escape_target(line: bytes) -> bytes:
    method, _, rest = line.partition(b" ")
    target, _, version = rest.rpartition(b" ")
    if not target or not version.startswith(b"HTTP/") or not _UNESCAPED.search(target):
        return line
    return b"%s %s %s" % (method, _UNESCAPED.sub(lambda match: b"%%%02X" % match[0][0], target), version)


class JsonErrorTask(ErrorTask):
    """Error response, in the JSON format of the API, to a request that cannot be parsed."""

    def execute(self) -> None:
        """Send the error and close the connection."""
        request: Any = self.request
        status, _, _ = request.error.to_response(self.channel.server.adj.ident)
        is_server_error = status.startswith("5")
        message = f"The server cannot parse this request ({status})."
        entry = {
            "imsx_codeMajor": "failure",
            "imsx_severity": "error",
            "imsx_description": message,
            "imsx_codeMinor": "internal_server_error" if is_server_error else "invalid data",
        }
        error = "server_error" if is_server_error else "invalid_data"
        body = orjson.dumps({"error": error, "message": message, "statusInfoSet": [entry]})
        self.status = status
        self.response_headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(SendingChannel):
    """Connection with the parser and the error responses of this module."""

    task_class: Any = Task

    parser_class: Any = Parser
    error_task_class: Any = JsonErrorTask
