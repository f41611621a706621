"""The two views, a collection and a single object, and the blueprint that binds every route to one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from flask import Blueprint, Request, Response, request
from flask_httpauth import HTTPTokenAuth

from backends import MATCH_NONE, Page, Query, Snapshot, Where, and_
from chalk_flask.api.auth.authentication import current_principal, current_version
from chalk_flask.api.errors import ApiError
from chalk_flask.api.public_url import request_base_url
from chalk_flask.api.reads import serialization
from chalk_flask.api.reads.query_params import QueryParams, link_header, parse_query_params
from chalk_flask.api.reads.redaction import RedactionCache, make_redactor
from chalk_flask.api.reads.responses import HeaderList, cache_headers, make_etag, not_modified, ok_response
from chalk_flask.api.routes import ROUTES, ApiRoot, Route
from chalk_flask.api.url_paths import quote_path
from chalk_flask.oneroster.relations import Ids
from chalk_flask.permissions.policy import UNRESTRICTED, AccessPolicy, policy_for
from chalk_flask.permissions.principal import Principal
from chalk_flask.services import Services

__all__ = ["blueprint"]

View: TypeAlias = Callable[..., Response]


def blueprint(chalk: Services, root: ApiRoot, bearer: HTTPTokenAuth) -> Blueprint:
    """Every route of the table under one root, and again below /sis (DataSync)."""
    known = RedactionCache()
    made = Blueprint(root.name, __name__, url_prefix=root.path)
    for route in ROUTES:
        guarded = bearer.login_required(role=route.scopes)(_view(chalk, root, route, known))
        for path in route.paths:
            rule = path.replace("{", "<id:").replace("}", ">")
            for prefix in ("", "/sis"):
                made.add_url_rule(prefix + rule, route.operation, guarded, provide_automatic_options=False)
    return made


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One request, read as far as it can be before the store is."""

    chalk: Services
    request: Request
    route: Route
    ids: Ids
    params: QueryParams
    base_url: str
    root_url: str
    principal: Principal
    policy: AccessPolicy
    parent_cache: ParentCache
    redaction_cache: RedactionCache


def _view(chalk: Services, root: ApiRoot, route: Route, known: RedactionCache) -> View:
    settings = chalk.settings
    variant = str(settings.lenient_parent)
    meanings = ParentCache(route)
    respond = _collection if route.is_collection else _single

    def view(**ids: str) -> Response:
        # `request` is a proxy that is slower than what it stands for.
        now: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask types it as a Request
        grant = current_principal()
        seen_by = policy_for(grant)
        wanted = parse_query_params(route, root, now.query_string, settings.max_limit, seen_by)
        site = request_base_url(now, settings.public_url)
        path = tuple(ids.values())
        call = ReadRequest(chalk, now, route, path, wanted, site, site + root.path, grant, seen_by, meanings, known)
        snapshot = chalk.store.read(call.principal.tenant, at_least=current_version())
        try:
            tag = make_etag(call.principal, snapshot.revision, site, now, variant)
            response = not_modified(now, tag) or respond(call, snapshot, cache_headers(tag))
        except BaseException:
            snapshot.close()
            raise
        if response.is_streamed:
            response.call_on_close(snapshot.close)
        else:
            snapshot.close()
        return response

    return view


def _collection(call: ReadRequest, snapshot: Snapshot, headers: HeaderList) -> Response:
    resource, wanted = call.route.resource, call.params
    meant = and_(_meant(call, snapshot), wanted.where)
    seen_by = call.policy
    where = and_(meant, seen_by.rows_hinted(resource.name) if call.route.parents else seen_by.rows(resource.name))
    page = snapshot.find(Query(resource.name, where, wanted.order, wanted.offset, wanted.limit))
    headers += [("X-Total-Count", str(page.total)), ("X-Count", str(page.total))]
    if wanted.limit:
        headers.append(("Link", link_header(call.base_url + quote_path(call.request.path), wanted, page.total)))
    documents = _documents(call, snapshot, page)
    blocks = serialization.collection(resource, documents, wanted.warnings)
    return ok_response(call.request, blocks, headers, call.chalk.settings.stream_seconds)


def _single(call: ReadRequest, snapshot: Snapshot, headers: HeaderList) -> Response:
    resource, wanted = call.route.resource, call.params
    where = and_(and_(_meant(call, snapshot), wanted.where), call.policy.rows(resource.name))
    page = snapshot.find(Query(resource.name, where, limit=1))
    if not page.total:
        raise ApiError(404, f"There is no {resource.singular_name} with this id here.")
    headers.append(("X-Total-Count", "1"))
    documents = _documents(call, snapshot, page)
    blocks = serialization.single(resource, documents, wanted.warnings)
    return ok_response(call.request, blocks, headers, call.chalk.settings.stream_seconds)


def _documents(call: ReadRequest, snapshot: Snapshot, page: Page) -> Iterator[bytes]:
    """The documents of the page as this bearer may see them."""
    blade = None
    if call.policy is not UNRESTRICTED:
        blade = make_redactor(
            call.route.resource.name, call.policy, snapshot, call.principal.tenant, call.redaction_cache
        )
    return serialization.render_documents(page.chunks, call.root_url, call.params.fields, blade)


def _meant(call: ReadRequest, snapshot: Snapshot) -> Where:
    """Which records the path means. Raises Problem (404) for an unknown parent, unless the operator is lenient."""
    meant = call.parent_cache.of(snapshot, call.principal.tenant, call.ids, call.policy)
    if meant is not None:
        return meant
    if call.chalk.settings.lenient_parent:
        return MATCH_NONE
    raise ApiError(404, "The path names an object that is not there, or not part of the one before it.")


class ParentCache:
    """What the paths of a route mean, remembered: a nested read has parents to look up, and clients repeat themselves.

    An entry holds for one revision. All are forgotten at once when they are many.
    """

    MANY = 2048

    def __init__(self, route: Route) -> None:
        self._route = route
        self._known: dict[tuple[str, int, Ids, AccessPolicy], Where | None] = {}

    def of(self, snapshot: Snapshot, tenant: str, ids: Ids, seen_by: AccessPolicy) -> Where | None:
        """Which records a path means to this bearer; None when it does not know a parent."""
        if not self._route.parents:
            return self._route.condition(snapshot, ids)
        key = (tenant, snapshot.revision, ids, seen_by)
        known = self._known  # another thread may put a new one in its place
        if key in known:
            return known[key]
        meant = None
        if self._route.parents_exist(snapshot, ids, seen_by.rows):
            meant = seen_by.restrict_subqueries(self._route.condition(snapshot, ids))
        if len(known) >= self.MANY:
            known = self._known = {}
        known[key] = meant
        return meant
