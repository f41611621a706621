"""The two views, a collection and a single object, and the blueprint that binds every route to one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from flask import Blueprint, Request, Response, request
from flask_httpauth import HTTPTokenAuth

from backends import Page, Query, Snapshot, Where
from chalk_flask.api.auth.authentication import current_grant, current_stamp
from chalk_flask.api.errors import Problem
from chalk_flask.api.public_url import origin
from chalk_flask.api.reads import serialization
from chalk_flask.api.reads.paging import links
from chalk_flask.api.reads.query_params import Asked, asked
from chalk_flask.api.reads.redaction import Acquaintances, cut
from chalk_flask.api.reads.responses import HeaderList, answer, entity_tag, first_headers, unchanged
from chalk_flask.api.routes import ROUTES, Root, Route
from chalk_flask.api.url_paths import quoted
from chalk_flask.auth.tokens.record import Grant
from chalk_flask.oneroster.relations import NOTHING, Ids, both
from chalk_flask.permissions.policy import OPEN, Sight, sight
from chalk_flask.services import Chalk

__all__ = ["blueprint"]

View: TypeAlias = Callable[..., Response]


def blueprint(chalk: Chalk, root: Root, bearer: HTTPTokenAuth) -> Blueprint:
    """Every route of the table under one root, and again below /sis (DataSync)."""
    known = Acquaintances()
    made = Blueprint(root.name, __name__, url_prefix=root.path)
    for route in ROUTES:
        guarded = bearer.login_required(role=route.scopes)(_view(chalk, root, route, known))
        for path in route.paths:
            rule = path.replace("{", "<id:").replace("}", ">")
            for prefix in ("", "/sis"):
                made.add_url_rule(prefix + rule, route.operation, guarded, provide_automatic_options=False)
    return made


@dataclass(frozen=True, slots=True)
class _Call:
    """One request, read as far as it can be before the store is."""

    chalk: Chalk
    request: Request
    route: Route
    ids: Ids
    asked: Asked
    site: str
    root: str
    grant: Grant
    seen_by: Sight
    meanings: _Meanings
    known: Acquaintances


def _view(chalk: Chalk, root: Root, route: Route, known: Acquaintances) -> View:
    settings = chalk.settings
    variant = str(settings.lenient_parent)
    meanings = _Meanings(route)
    respond = _collection if route.many else _single

    def view(**ids: str) -> Response:
        # `request` is a proxy that is slower than what it stands for.
        now: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask types it as a Request
        grant = current_grant()
        seen_by = sight(grant)
        wanted = asked(route, root, now.query_string, settings.max_limit, seen_by)
        site = origin(now, settings.public_url)
        path = tuple(ids.values())
        call = _Call(chalk, now, route, path, wanted, site, site + root.path, grant, seen_by, meanings, known)
        snapshot = chalk.store.read_since(call.grant.tenant, current_stamp())
        try:
            tag = entity_tag(call.grant, snapshot.revision, site, now, variant)
            response = unchanged(now, tag) or respond(call, snapshot, first_headers(tag))
        except BaseException:
            snapshot.close()
            raise
        if response.is_streamed:
            response.call_on_close(snapshot.close)
        else:
            snapshot.close()
        return response

    return view


def _collection(call: _Call, snapshot: Snapshot, headers: HeaderList) -> Response:
    resource, wanted = call.route.resource, call.asked
    meant = both(_meant(call, snapshot), wanted.where)
    seen_by = call.seen_by
    where = both(meant, seen_by.tested(resource.name) if call.route.parents else seen_by.where(resource.name))
    page = snapshot.find(Query(resource.name, where, wanted.order, wanted.offset, wanted.limit))
    headers += [("X-Total-Count", str(page.total)), ("X-Count", str(page.total))]
    if wanted.limit:
        headers.append(("Link", links(call.site + quoted(call.request.path), wanted, page.total)))
    documents = _documents(call, snapshot, page)
    blocks = serialization.collection(resource, documents, wanted.notices)
    return answer(call.request, blocks, headers, call.chalk.settings.stream_seconds)


def _single(call: _Call, snapshot: Snapshot, headers: HeaderList) -> Response:
    resource, wanted = call.route.resource, call.asked
    where = both(both(_meant(call, snapshot), wanted.where), call.seen_by.where(resource.name))
    page = snapshot.find(Query(resource.name, where, limit=1))
    if not page.total:
        raise Problem(404, f"There is no {resource.single} with this id here.")
    headers.append(("X-Total-Count", "1"))
    documents = _documents(call, snapshot, page)
    blocks = serialization.single(resource, documents, wanted.notices)
    return answer(call.request, blocks, headers, call.chalk.settings.stream_seconds)


def _documents(call: _Call, snapshot: Snapshot, page: Page) -> Iterator[bytes]:
    """The documents of the page as this bearer may see them."""
    blade = None
    if call.seen_by is not OPEN:
        blade = cut(call.route.resource.name, call.seen_by, snapshot, call.grant.tenant, call.known)
    return serialization.documents(page.chunks, call.root, call.asked.fields, blade)


def _meant(call: _Call, snapshot: Snapshot) -> Where:
    """Which records the path means. Raises Problem (404) for an unknown parent, unless the operator is lenient."""
    meant = call.meanings.of(snapshot, call.grant.tenant, call.ids, call.seen_by)
    if meant is not None:
        return meant
    if call.chalk.settings.lenient_parent:
        return NOTHING
    raise Problem(404, "The path names an object that is not there, or not part of the one before it.")


class _Meanings:
    """What the paths of a route mean, remembered: a nested read has parents to look up, and clients repeat themselves.

    An entry holds for one revision. All are forgotten at once when they are many.
    """

    MANY = 2048

    def __init__(self, route: Route) -> None:
        self._route = route
        self._known: dict[tuple[str, int, Ids, Sight], Where | None] = {}

    def of(self, snapshot: Snapshot, tenant: str, ids: Ids, seen_by: Sight) -> Where | None:
        """Which records a path means to this bearer; None when it does not know a parent."""
        if not self._route.parents:
            return self._route.condition(snapshot, ids)
        key = (tenant, snapshot.revision, ids, seen_by)
        known = self._known  # another thread may put a new one in its place
        if key in known:
            return known[key]
        meant = None
        if self._route.knows_parents(snapshot, ids, seen_by.where):
            meant = seen_by.joined(self._route.condition(snapshot, ids))
        if len(known) >= self.MANY:
            known = self._known = {}
        known[key] = meant
        return meant
