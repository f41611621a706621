"""Views of gradebook writes: PUT and DELETE (docs/conformance, W-01 to W-13)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias
from urllib.parse import quote
from uuid import uuid4

from flask import Blueprint, Request, Response, g, request

from backends import InvalidQueryError, Transaction
from chalk_flask.api.auth.authentication import current_principal, require_scope
from chalk_flask.api.auth.rate_limits import Auth
from chalk_flask.api.errors import ApiError, error_response
from chalk_flask.api.public_url import request_base_url
from chalk_flask.api.reads.envelopes import single_envelope
from chalk_flask.api.routes import WRITE_ROUTES, ApiRoot, WriteRoute
from chalk_flask.api.url_paths import url_rule
from chalk_flask.api.writes.json_body import parse_enveloped_object
from chalk_flask.audit.events import record_event
from chalk_flask.oneroster.fields.base import printable
from chalk_flask.oneroster.vocabularies import DELETED
from chalk_flask.permissions.policy import UNRESTRICTED, policy_for
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import GRADEBOOK_DELETE, GRADEBOOK_WRITE
from chalk_flask.roster.changes.history_retention import HistoryPeriods
from chalk_flask.roster.gradebook import writes
from chalk_flask.serialization import DocumentSerializer, RedactionCache, ReferenceLookup
from chalk_flask.services import Services

__all__ = ["write_blueprint"]

View: TypeAlias = Callable[..., Response]

_REPLACEMENT_CHARACTER = "\ufffd"
"""Character that replaces bytes in a path that are not UTF-8."""


def write_blueprint(services: Services, root: ApiRoot, auth: Auth) -> Blueprint:
    """Return a blueprint with every write route under one root, with an alias below `/sis` that DataSync expects."""
    blueprint = Blueprint(f"{root.name}-writes", __name__, url_prefix=root.path)
    for route in WRITE_ROUTES:
        guarded = auth.login_required(role=[route.scope])(_VIEWS[route.method](services, root, route))
        view = _hide_from_readers(guarded) if root.read_only else guarded
        for path in route.paths:
            for prefix in ("", "/sis"):
                rule = prefix + url_rule(path)
                blueprint.add_url_rule(
                    rule, route.operation, view, methods=[route.method], provide_automatic_options=False
                )
    return blueprint


def _hide_from_readers(guarded: View) -> View:
    """Return a view whose response to callers without a write scope is 405 instead of 403.

    See docs/conformance, W-01.
    """

    def view(**ids: str) -> Response:
        response = guarded(**ids)
        if response.status_code == 403 and g.principal.scopes.isdisjoint((GRADEBOOK_WRITE, GRADEBOOK_DELETE)):
            return error_response(405, headers=[("Allow", "GET, HEAD")])
        return response

    return view


def _put_view(services: Services, root: ApiRoot, route: WriteRoute) -> View:
    resource_type = route.resource_type
    periods = HistoryPeriods(services.store, services.settings.history_days)

    def put(id: str = "") -> Response:  # noqa: A002 - name of the id in the path
        current: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask types it as a Request
        root_url = request_base_url(current, services.settings.public_url) + root.path
        principal = current_principal()
        payload = parse_enveloped_object(current, resource_type.singular_name)
        if payload.get("status") in DELETED:
            require_scope(route.deletion_scope)
        key = _record_key(id, payload)
        tool, on_commit = _grade_tool(principal), _audit_on_commit(route, key, principal)
        with _gradebook_errors_as_responses(route, key):
            stored = writes.put(
                services.store,
                principal.tenant,
                resource_type,
                key,
                payload,
                tool,
                on_commit,
                keeps_history=periods.days_of(principal.tenant) > 0,
            )
        document = _render_for(services, route, root_url, principal, stored.body)
        return _put_response(route, root_url, key, document, stored.created)

    return put


def _delete_view(services: Services, _: ApiRoot, route: WriteRoute) -> View:
    resource_type, periods = route.resource_type, HistoryPeriods(services.store, services.settings.history_days)

    def delete(id: str) -> Response:  # noqa: A002 - name of the id in the path
        principal = current_principal()
        tool, on_commit = _grade_tool(principal), _audit_on_commit(route, id, principal)
        with _gradebook_errors_as_responses(route, id):
            keeps_history = periods.days_of(principal.tenant) > 0
            writes.delete(
                services.store, principal.tenant, resource_type, id, tool, on_commit, keeps_history=keeps_history
            )
        response = Response(status=204)
        del response.headers["Content-Type"]
        return response

    return delete


@contextmanager
def _gradebook_errors_as_responses(route: WriteRoute, record_id: str) -> Iterator[None]:
    """Convert errors of the gradebook into ApiError.

    422 for an invalid payload, 404 for an unknown record, 403 for effects on hidden ones.
    """
    try:
        yield
    except writes.InvalidPayloadError as error:
        raise ApiError(422, f"{error}.") from None
    except InvalidQueryError as error:  # PostgreSQL limits the length of indexed values
        raise ApiError(422, f"The record cannot be stored: {error}.") from None
    except writes.RecordNotFoundError:
        name = route.resource_type.singular_name
        raise ApiError(404, f"There is no {name} {printable(record_id)}.") from None
    except writes.ForbiddenWriteError as error:
        raise ApiError(403, f"{error}.") from None


def _grade_tool(principal: Principal) -> writes.GradeTool:
    return writes.GradeTool(policy_for(principal), f"{principal.credential_type}:{principal.credential_id}")


_VIEWS: dict[str, Callable[[Services, ApiRoot, WriteRoute], View]] = {"PUT": _put_view, "DELETE": _delete_view}


def _record_key(path_id: str, payload: dict[str, Any]) -> str:
    """Return the id of the record: from the path, else from the body, else a new UUID (docs/conformance, W-02)."""
    if _REPLACEMENT_CHARACTER in path_id:
        raise ApiError(400, "The id in the path is not UTF-8. Percent-encode it as UTF-8.")
    body_id = payload.get("sourcedId")
    if body_id is None:
        return path_id or str(uuid4())
    if not isinstance(body_id, str) or not body_id:
        raise ApiError(400, "sourcedId in the body must be a text that is not empty.")
    if path_id and body_id != path_id:
        raise ApiError(
            400, f"sourcedId in the body is {printable(body_id)}, but the id in the path is {printable(path_id)}."
        )
    return body_id


def _audit_on_commit(route: WriteRoute, key: str, principal: Principal) -> writes.OnCommit:
    """Return a callback that records the write in the audit log, in the transaction of the write."""
    event = "gradebook.put" if route.method == "PUT" else "gradebook.deleted"

    def on_commit(transaction: Transaction) -> None:
        record_event(
            transaction,
            principal.tenant,
            event,
            collection=route.resource_type.name,
            record=key,
            way=principal.credential_type,
            by=principal.credential_id,
        )

    return on_commit


def _render_for(services: Services, route: WriteRoute, root_url: str, principal: Principal, stored: bytes) -> bytes:
    """Return the stored document as a read would show it to the principal (docs/conformance, W-08)."""
    resource_type, policy = route.resource_type, policy_for(principal)
    if policy is UNRESTRICTED:
        return b"".join(DocumentSerializer(resource_type, root_url, policy).render([stored]))
    with services.store.read(principal.tenant) as snapshot:
        lookup = ReferenceLookup(snapshot, principal.tenant, RedactionCache())
        return b"".join(DocumentSerializer(resource_type, root_url, policy, lookup).render([stored]))


def _put_response(route: WriteRoute, root_url: str, key: str, document: bytes, created: bool) -> Response:
    body = b"".join(single_envelope(route.resource_type, [document]))
    headers = [("Content-Type", "application/json"), ("Cache-Control", "private, no-store")]
    if created:
        headers.append(("Location", f"{root_url}/{route.resource_type.name}/{quote(key, safe='')}"))
    return Response(body, 201 if created else 200, headers=headers)
