"""Client of the API within the process. Pages read roster records through it, so that only the API returns records.

Access policy, redaction, filter grammar and paging are those of the API. The request never leaves the process.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import orjson
from flask import Flask, abort, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import Forbidden, NotFound

from backends import CONTROL, Backend, batched
from chalk_flask.admins.roles import Permission, allows
from chalk_flask.api.auth.internal_requests import MAX_RECORD_IDS, PRINCIPAL_KEY, RECORD_IDS_KEY
from chalk_flask.api.routes import ROOTS
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import DEFAULT, DEMOGRAPHICS
from chalk_flask.tenants.store import apply_tenant_rules

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from chalk_flask.admins.record import Administrator

__all__ = ["ApiClient", "ApiResult", "administrator_principal", "preview_principal"]

DEFAULT_ROOT = next(root.path for root in ROOTS if root.name == "ims")
"""API root of paths that name none. Without `limit`, it returns a page of 100 records."""

_API_PREFIXES = tuple(f"{root.path}/" for root in ROOTS)
_COPIED_KEYS = ("SERVER_NAME", "SERVER_PORT", "HTTP_HOST", "SCRIPT_NAME", "REMOTE_ADDR", "wsgi.url_scheme")
"""Keys of the administrator's request that decide the URLs in the response."""


@dataclass(frozen=True, slots=True)
class ApiResult:
    """Response of the API. `url` is the path with its query, as a client would request it."""

    status: int
    headers: Headers
    body: bytes
    url: str

    @property
    def ok(self) -> bool:
        """True if the request succeeded."""
        return self.status < 400

    @property
    def json(self) -> Any:
        """Body as JSON; None for an empty body."""
        return orjson.loads(self.body) if self.body else None

    @property
    def records(self) -> list[dict[str, Any]]:
        """Records of a collection; none if the request failed."""
        found: list[dict[str, Any]] = next(iter(self.json.values())) if self.ok else []
        return found

    @property
    def record(self) -> dict[str, Any]:
        """Record of a single read.

        Raises NotFound for an unknown or hidden record. Other failures, such as 503, become a page with their message.
        """
        if self.status in (403, 404):
            raise NotFound
        if not self.ok:
            abort(self.status, self.message)
        found: dict[str, Any] = next(iter(self.json.values()))
        return found

    @property
    def total(self) -> int:
        """Number of records that match the request, on all of its pages."""
        return int(self.headers.get("X-Total-Count", 0))

    @property
    def message(self) -> str:
        """Message of a failed request; "" for a successful one."""
        return "" if self.ok else str(self.json["message"])


class ApiClient:
    """Client that calls the API of an application as a principal, within the request of an administrator."""

    def __init__(self, app: Flask, principal: Principal) -> None:
        self._app = app
        self.principal = principal

    def get(self, path: str, params: Mapping[str, object] | None = None) -> ApiResult:
        """Return the response to a read. A path without an API root is below `/ims/oneroster/v1p1`.

        The caller quotes ids in the path with `quote_id`. Parameters that are None or "" are left out.
        """
        return self.send("GET", path, params)

    def send(self, method: str, path: str, params: Mapping[str, object] | None = None, body: bytes = b"") -> ApiResult:
        """Return the response to a request with a JSON body."""
        return self._send(method, path, params or {}, body)

    def find_many(self, path: str, ids: Iterable[str], fields: str = "") -> dict[str, dict[str, Any]]:
        """Return the records of a collection with these ids by id, deleted ones included.

        Ids of unknown and hidden records are left out. There are none if the principal cannot see the collection.
        Other failures, such as 503, become an error page, because a record that exists would look as if it did not.
        """
        found: dict[str, dict[str, Any]] = {}
        for batch in batched(dict.fromkeys(ids), MAX_RECORD_IDS):
            result = self._send("GET", path, {"fields": fields}, b"", {RECORD_IDS_KEY: tuple(batch)})
            if not result.ok and result.status != 403:
                abort(result.status, result.message)
            found |= {record["sourcedId"]: record for record in result.records}
        return found

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, object],
        body: bytes,
        environ_members: Mapping[str, object] = MappingProxyType({}),
    ) -> ApiResult:
        target = path if path.startswith(_API_PREFIXES) else DEFAULT_ROOT + path
        query = urlencode({name: str(value) for name, value in params.items() if value not in (None, "")})
        environ = _environ(method, target, query, body)
        environ |= {PRINCIPAL_KEY: self.principal, **environ_members}
        status, headers, content = _call(self._app, environ)
        return ApiResult(status, headers, content, f"{target}?{query}" if query else target)

    def count(self, path: str, params: Mapping[str, object] | None = None) -> int:
        """Return the number of records that match; 0 if the principal cannot see the collection.

        Other failures, such as 503, become an error page, because 0 would be wrong.
        """
        result = self.get(path, {**(params or {}), "limit": 1, "fields": "sourcedId"})
        if not result.ok and result.status != 403:
            abort(result.status, result.message)
        return result.total

    @staticmethod
    def quote_id(sourced_id: str) -> str:
        """Return an id as one segment of a path."""
        return quote(sourced_id, safe="")


def administrator_principal(
    store: Backend, administrator: Administrator, tenant: str, demographics: bool = False
) -> Principal:
    """Return the principal that reads everything of the tenant; demographics only if requested and the tenant opted in.

    Raises NotFound if the tenant does not exist, and Forbidden without the permission DEMOGRAPHICS_VIEW.
    """
    if demographics and not allows(administrator, Permission.DEMOGRAPHICS_VIEW):
        raise Forbidden
    scopes = DEFAULT | {DEMOGRAPHICS} if demographics else DEFAULT
    principal = Principal(tenant, scopes, administrator.id, credential_type="administrator")
    with store.read(CONTROL) as control:
        allowed = apply_tenant_rules(control, principal)
    if allowed is None:
        raise NotFound
    return allowed


def preview_principal(store: Backend, administrator: Administrator, principal: Principal) -> Principal:
    """Return a principal that sees what the principal of a credential sees, for a preview by the administrator.

    The access log names the administrator. The preview includes demographics only with the permission
    DEMOGRAPHICS_VIEW. Raises NotFound if the tenant does not exist.
    """
    scopes = principal.scopes
    if not allows(administrator, Permission.DEMOGRAPHICS_VIEW):
        scopes -= {DEMOGRAPHICS}
    preview = replace(principal, scopes=scopes, credential_id=administrator.id, credential_type="administrator")
    with store.read(CONTROL) as control:
        allowed = apply_tenant_rules(control, preview)
    if allowed is None:
        raise NotFound
    return allowed


def _environ(method: str, target: str, query: str, body: bytes) -> WSGIEnvironment:
    """Return the WSGI environment of a request to this application, at the address of the current request."""
    from urllib.parse import unquote_to_bytes

    outer = request.environ
    environ: WSGIEnvironment = {key: outer[key] for key in _COPIED_KEYS if key in outer}
    environ |= {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote_to_bytes(target).decode("latin-1"),
        "QUERY_STRING": query,
        "REQUEST_URI": environ.get("SCRIPT_NAME", "") + target,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if body:
        environ["CONTENT_TYPE"] = "application/json"
    return environ


def _call(app: Flask, environ: WSGIEnvironment) -> tuple[int, Headers, bytes]:
    """Return status, headers and body of the application's response."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
        started.append((status, headers))
        return started.append

    # Without a context of its own, the API would share `g` with the page, and the page would be recorded as a read.
    with app.app_context():
        blocks: Iterable[bytes] = app.wsgi_app(environ, start_response)
        try:
            body = b"".join(blocks)
        finally:
            close = getattr(blocks, "close", None)
            if close:
                close()
    status, headers = started[-1]
    return int(status.partition(" ")[0]), Headers(headers), body
