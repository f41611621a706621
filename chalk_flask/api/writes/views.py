"""Gradebook writes over HTTP: PUT and DELETE of categories, line items and results (digest 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias
from urllib.parse import quote
from uuid import uuid4

from flask import Blueprint, Request, Response, g, request

from backends import Transaction
from chalk_flask.api import errors
from chalk_flask.api.auth.authentication import current_principal
from chalk_flask.api.auth.rate_limits import Auth
from chalk_flask.api.errors import ApiError
from chalk_flask.api.public_url import request_base_url
from chalk_flask.api.reads import serialization
from chalk_flask.api.reads.redaction import RedactionCache, make_redactor
from chalk_flask.api.routes import WRITES, ApiRoot, WriteRoute
from chalk_flask.api.writes.json_body import parse_enveloped_object
from chalk_flask.audit.events import record_event
from chalk_flask.permissions.policy import UNRESTRICTED, policy_for
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import GRADEBOOK_DELETE, GRADEBOOK_WRITE
from chalk_flask.roster.gradebook import writes
from chalk_flask.services import Services

__all__ = ["blueprint"]

View: TypeAlias = Callable[..., Response]

_UNREAD = "\ufffd"
"""What bytes that are not UTF-8 become in a path."""


def blueprint(chalk: Services, root: ApiRoot, bearer: Auth) -> Blueprint:
    """Every write of the table under one root, and again below /sis (DataSync)."""
    made = Blueprint(f"{root.name}-writes", __name__, url_prefix=root.path)
    for write in WRITES:
        guarded = bearer.login_required(role=[write.scope])(_VIEWS[write.method](chalk, root, write))
        offered = _offered(guarded) if root.read_only else guarded
        for path in write.paths:
            rule = path.replace("{", "<id:").replace("}", ">")
            for prefix in ("", "/sis"):
                made.add_url_rule(
                    prefix + rule, write.operation, offered, methods=[write.method], provide_automatic_options=False
                )
    return made


def _offered(guarded: View) -> View:
    """The guarded view; to those who may write nothing at all the root is read-only (reading W-01)."""

    def offered(**ids: str) -> Response:
        answer = guarded(**ids)
        if answer.status_code == 403 and g.grant.scopes.isdisjoint((GRADEBOOK_WRITE, GRADEBOOK_DELETE)):
            return errors.error_response(405, headers=[("Allow", "GET, HEAD")])
        return answer

    return offered


def _putting(chalk: Services, root: ApiRoot, write: WriteRoute) -> View:
    def put(id: str = "") -> Response:  # noqa: A002 - what the path calls it
        now: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask types it as a Request
        base, grant = request_base_url(now, chalk.settings.public_url) + root.path, current_principal()
        given = parse_enveloped_object(now, write.resource.singular_name)
        key = _key(id, given)
        seen, also = policy_for(grant).rows, _noting(write, key, grant)
        with _refusals(write):
            done = writes.put(chalk.store, grant.tenant, write.resource, key, given, seen, also)
        return _answer(write, base, key, _shown(chalk, write, base, grant, done.body), done.created)

    return put


def _deleting(chalk: Services, _: ApiRoot, write: WriteRoute) -> View:
    def delete(id: str) -> Response:  # noqa: A002 - what the path calls it
        grant = current_principal()
        seen, also = policy_for(grant).rows, _noting(write, id, grant)
        with _refusals(write):
            writes.delete(chalk.store, grant.tenant, write.resource, id, seen, also)
        answer = Response(status=204)
        del answer.headers["Content-Type"]
        return answer

    return delete


@contextmanager
def _refusals(write: WriteRoute) -> Iterator[None]:
    """What the gradebook refuses, as answers."""
    try:
        yield
    except writes.InvalidPayloadError as error:
        raise ApiError(422, f"{error}.") from None
    except writes.RecordNotFoundError:
        raise ApiError(404, f"There is no {write.resource.singular_name} with this id here.") from None


_VIEWS: dict[str, Callable[[Services, ApiRoot, WriteRoute], View]] = {"PUT": _putting, "DELETE": _deleting}


def _key(path: str, given: dict[str, Any]) -> str:
    """The id of what is put: the path's, else the body's, else a new one (reading W-02)."""
    if _UNREAD in path:
        raise ApiError(400, "The id in the path is not UTF-8.")
    named = given.get("sourcedId")
    if named is None:
        return path or str(uuid4())
    if not isinstance(named, str) or not named:
        raise ApiError(400, "sourcedId in the body must be a text that is not empty.")
    if path and named != path:
        raise ApiError(400, "sourcedId in the body is not the id in the path.")
    return named


def _noting(write: WriteRoute, key: str, grant: Principal) -> writes.OnCommit:
    """Who wrote which record goes into the audit, with the record or not at all."""
    event = "gradebook.put" if write.method == "PUT" else "gradebook.deleted"

    def note(transaction: Transaction) -> None:
        name = write.resource.name
        record_event(
            transaction,
            grant.tenant,
            event,
            collection=name,
            record=key,
            way=grant.credential_type,
            by=grant.credential_id,
        )

    return note


def _shown(chalk: Services, write: WriteRoute, base: str, grant: Principal, stored: bytes) -> bytes:
    """The record as a read would show it to this bearer."""
    seen_by = policy_for(grant)
    if seen_by is UNRESTRICTED:
        return b"".join(serialization.render_documents([stored], base, None))
    with chalk.store.read(grant.tenant) as snapshot:
        blade = make_redactor(write.resource.name, seen_by, snapshot, grant.tenant, RedactionCache())
        return b"".join(serialization.render_documents([stored], base, None, blade))


def _answer(write: WriteRoute, base: str, key: str, document: bytes, created: bool) -> Response:
    body = b"".join(serialization.single(write.resource, [document], ()))
    headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
    if created:
        headers.append(("Location", f"{base}/{write.resource.name}/{quote(key, safe='')}"))
    return Response(body, 201 if created else 200, headers=headers)
