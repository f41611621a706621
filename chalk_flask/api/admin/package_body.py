"""Package in the body of a request, as a ZIP file or as the file of a form, and the parameters of its import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final

from flask import Request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from chalk_flask.api.errors import ApiError
from chalk_flask.oneroster.fields.base import printable
from chalk_flask.roster.tenant_imports import ImportChoices
from chalk_flask.server import BODY_REJECTED_KEY

__all__ = ["IMPORT_PARAMETERS", "RETRY_SECONDS", "ImportParameter", "open_package", "parse_import_parameters"]

MAX_FORM_PARTS: Final = 10
RETRY_SECONDS: Final = 60
"""Time after which a client may repeat a request that was rejected because of others, or of a full disk."""

_FORM_TYPE: Final = "multipart/form-data"
_BOOLEANS: Final[Mapping[str, Any]] = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class ImportParameter:
    """Query parameter of an import. `values` are its values by the text of the request."""

    values: Mapping[str, Any]
    description: str

    @property
    def is_boolean(self) -> bool:
        """True if the values are `true` and `false`."""
        return self.values is _BOOLEANS


IMPORT_PARAMETERS: Final[Mapping[str, ImportParameter]] = {
    "dry_run": ImportParameter(_BOOLEANS, "Validate the package and report the changes without applying them."),
    "lenient": ImportParameter(
        _BOOLEANS, "Accept deviations from the standard, each with a warning. Default: the setting of the tenant."
    ),
    "strict": ImportParameter(
        _BOOLEANS, "Treat references to the wrong type, contradictions and placeholders such as `#REF!` as errors."
    ),
    "invalid_rows": ImportParameter(
        {"reject": "reject", "quarantine": "quarantine"},
        "Treatment of invalid rows: reject the package, or set them aside and apply the others. Default: the setting of"
        " the tenant.",
    ),
}
"""Parameters of an import by name."""

_TOO_LARGE_FORM = "The form has too many parts, or a field is too large. Send one file and nothing else."
_INCOMPLETE_MESSAGE = "The body is shorter than its Content-Length. Nothing was changed. Send all of it."
_EMPTY_MESSAGE = "The body is empty. Send a ZIP file, as the body or as the file of a form."
_NO_FILE_MESSAGE = (
    "The form must have exactly one file, the package, and no other field. Nothing was changed. Send parameters such as"
    " dry_run in the URL."
)
_BUSY_MESSAGE = "Other uploads are in progress. Nothing was changed. Try again in a minute."
_STORE_MESSAGE = (
    "The package could not be stored. Nothing was changed. Tell the operator to check disk space and `data`."
)


def parse_import_parameters(params: MultiDict[str, str]) -> tuple[ImportChoices, bool]:
    """Return the choices of an import, and True for a dry run.

    Raises ApiError (400) for an unknown parameter, because a misspelled `dry_run` would change the roster.
    """
    choices: dict[str, Any] = {}
    for name, texts in params.lists():
        parameter = IMPORT_PARAMETERS.get(name)
        if parameter is None:
            names = ", ".join(IMPORT_PARAMETERS)
            raise ApiError(400, f"Unknown parameter {printable(name)}. The parameters are {names}.")
        values = parameter.values
        if len(texts) > 1 or texts[0] not in values:
            raise ApiError(400, f"{name} must be {' or '.join(values)}, once. It is {printable(', '.join(texts))}.")
        choices[name] = values[texts[0]]
    dry_run = choices.pop("dry_run", False)
    return ImportChoices(**choices), dry_run


@contextmanager
def open_package(request: Request, max_bytes: int) -> Iterator[tuple[IO[bytes], str | None]]:
    """Yield the stream of the package, and the name of its file if the client sent one.

    Raises ApiError: 400 for a body that is empty or incomplete, 413 for one that is too large. Raises 503 while other
    uploads are received, or if the disk is full. Errors of the block that the body causes are converted too.
    """
    _check_body(request, max_bytes)
    try:
        yield _open_form(request) if request.mimetype == _FORM_TYPE else _open_body(request)
    except RequestEntityTooLarge:
        raise ApiError(413, _TOO_LARGE_FORM) from None
    except ClientDisconnected:
        raise ApiError(400, _INCOMPLETE_MESSAGE) from None
    except OSError as error:
        raise ApiError(503, _STORE_MESSAGE, retry_after=RETRY_SECONDS) from error


def _check_body(request: Request, max_bytes: int) -> None:
    """Raise ApiError if the server has dropped the body."""
    match request.environ.get(BODY_REJECTED_KEY):
        case None:
            return
        case "busy":
            raise ApiError(503, _BUSY_MESSAGE, retry_after=RETRY_SECONDS)
        case "disk_full":
            raise ApiError(503, _STORE_MESSAGE, retry_after=RETRY_SECONDS)
        case _:
            raise ApiError(
                413,
                f"The body is larger than {max_bytes >> 20} MiB, the setting upload_max_mb, or than 1 MiB in a request"
                " that is signed with OAuth 1.0a. Nothing was changed.",
            )


def _open_body(request: Request) -> tuple[IO[bytes], None]:
    if request.content_length == 0 or (request.content_length is None and not _is_chunked(request)):
        raise ApiError(400, _EMPTY_MESSAGE)
    return request.stream, None


def _is_chunked(request: Request) -> bool:
    return bool(request.environ.get("wsgi.input_terminated"))


def _open_form(request: Request) -> tuple[IO[bytes], str | None]:
    request.max_form_parts = MAX_FORM_PARTS
    files = [file for _, file in request.files.items(multi=True)]
    if len(files) != 1 or request.form:
        raise ApiError(400, _NO_FILE_MESSAGE)
    return files[0].stream, files[0].filename
