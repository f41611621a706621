"""Views of reads, a collection or a single object, and the blueprint that binds every route to one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flask import Blueprint, Request, Response, request

from backends import KEY, MATCH_NONE, In, Query, Snapshot, Where, and_
from chalk_flask.api.auth.authentication import current_principal, current_version
from chalk_flask.api.auth.concurrency import ConcurrencyLimiter
from chalk_flask.api.auth.internal_requests import RECORD_IDS_KEY
from chalk_flask.api.auth.rate_limits import Auth
from chalk_flask.api.public_url import request_base_url
from chalk_flask.api.reads.envelopes import collection_envelope, single_envelope
from chalk_flask.api.reads.not_found import not_found_error
from chalk_flask.api.reads.query_params import QueryParams, link_header, parse_query_params
from chalk_flask.api.reads.responses import HeaderList, cache_headers, make_etag, not_modified, ok_response
from chalk_flask.api.routes import READ_ROUTES, ApiRoot, ReadRoute
from chalk_flask.api.url_paths import quote_path, url_rule
from chalk_flask.caching import LRUCache
from chalk_flask.oneroster.relations import Ids
from chalk_flask.permissions.policy import UNRESTRICTED, AccessPolicy, policy_for
from chalk_flask.permissions.principal import Principal
from chalk_flask.serialization import DocumentSerializer, RedactionCache, ReferenceLookup
from chalk_flask.server.loop_requests import require_thread
from chalk_flask.services import Services

__all__ = ["read_blueprint"]


def read_blueprint(services: Services, root: ApiRoot, auth: Auth) -> Blueprint:
    """Return a blueprint with every read route under one root, with an alias below `/sis` that DataSync expects."""
    redaction_cache = RedactionCache()
    settings = services.settings
    streams = ConcurrencyLimiter(
        "streamed responses",
        services.metrics.streams("stream"),
        per_credential=settings.stream_limit_credential,
        per_address=settings.stream_limit_address,
    )
    blueprint = Blueprint(root.name, __name__, url_prefix=root.path)
    for route in READ_ROUTES:
        view = auth.login_required(role=route.scopes)(
            _ReadView(services, root, route, redaction_cache, streams).respond
        )
        for path in route.paths:
            for prefix in ("", "/sis"):
                rule = prefix + url_rule(path)
                blueprint.add_url_rule(rule, route.operation, view, provide_automatic_options=False)
    return blueprint


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Read request, parsed before the store is read. `base_url` is the URL of the mounted application."""

    request: Request
    ids: Ids
    params: QueryParams
    base_url: str
    principal: Principal
    policy: AccessPolicy


class _ReadView:
    """View of one route under one root. Its caches last as long as the application."""

    def __init__(
        self,
        services: Services,
        root: ApiRoot,
        route: ReadRoute,
        redaction_cache: RedactionCache,
        streams: ConcurrencyLimiter,
    ) -> None:
        self._store = services.store
        self._settings = services.settings
        self._query_seconds = services.settings.query_seconds
        self._root = root
        self._route = route
        self._redaction_cache = redaction_cache
        self._streams = streams
        self._path_conditions = PathConditionCache(route)
        self._etag_variant = str(services.settings.lenient_parent)
        self._render = self._collection if route.is_collection else self._single

    def respond(self, **ids: str) -> Response:
        """Return the response to the current request."""
        # Attribute access on the proxy `request` is slower.
        current: Request = request._get_current_object()  # type: ignore[attr-defined]  # Flask types it as a Request
        principal = current_principal()
        policy = policy_for(principal)
        params = parse_query_params(self._route, self._root, current.query_string, self._settings.max_limit, policy)
        if (record_ids := current.environ.get(RECORD_IDS_KEY)) is not None:
            params = replace(params, where=In(KEY, record_ids), limit=len(record_ids))
        base_url = request_base_url(current, self._settings.public_url)
        read = ReadRequest(current, tuple(ids.values()), params, base_url, principal, policy)
        snapshot = self._store.read(principal.tenant, at_least=current_version(), query_seconds=self._query_seconds)
        try:
            etag = make_etag(principal, snapshot.revision, base_url, current, self._etag_variant)
            response = not_modified(current, etag) or self._render(read, snapshot, cache_headers(etag))
            is_streamed = response.is_streamed
            if is_streamed:
                require_thread(current.environ)
                response.call_on_close(self._streams.acquire(principal, current))
        except BaseException:
            snapshot.close()
            raise
        if is_streamed:
            response.call_on_close(snapshot.close)
        else:
            snapshot.close()
        return response

    def _collection(self, read: ReadRequest, snapshot: Snapshot, headers: HeaderList) -> Response:
        resource_type, params = self._route.resource_type, read.params
        condition = and_(self._path_condition(read, snapshot), params.where)
        # Below a parent few records match the path, so the policy filters those instead of joining all visible ones.
        where = read.policy.restrict(condition, resource_type.name, is_selective=bool(self._route.parents))
        page = snapshot.find(Query(resource_type.name, where, params.order, params.offset, params.limit))
        headers += [("X-Total-Count", str(page.total)), ("X-Count", str(_records_on_page(params, page.total)))]
        if params.limit:
            link = link_header(read.base_url + quote_path(read.request.path), params, page.total)
            headers += [("Link", link)] if link else []
        documents = self._serializer(read, snapshot).render(page.chunks, has_escapes=page.has_escapes)
        blocks = collection_envelope(resource_type, documents, params.warnings)
        return ok_response(read.request, blocks, headers, self._settings.stream_seconds)

    def _single(self, read: ReadRequest, snapshot: Snapshot, headers: HeaderList) -> Response:
        resource_type, params = self._route.resource_type, read.params
        condition = and_(self._path_condition(read, snapshot), params.where)
        where = read.policy.restrict(condition, resource_type.name)
        page = snapshot.find(Query(resource_type.name, where, limit=1))
        if not page.total:
            raise not_found_error(self._route, snapshot, read.ids, read.principal, read.policy)
        headers += [("X-Total-Count", "1"), ("X-Count", "1")]
        documents = self._serializer(read, snapshot).render(page.chunks)
        blocks = single_envelope(resource_type, documents, params.warnings)
        return ok_response(read.request, blocks, headers, self._settings.stream_seconds)

    def _serializer(self, read: ReadRequest, snapshot: Snapshot) -> DocumentSerializer:
        root_url = read.base_url + self._root.path
        lookup = ReferenceLookup(snapshot, read.principal.tenant, self._redaction_cache)
        return DocumentSerializer(self._route.resource_type, root_url, read.policy, lookup, read.params.fields)

    def _path_condition(self, read: ReadRequest, snapshot: Snapshot) -> Where:
        """Return the condition that selects the records of the path.

        Raises ApiError (404) for an unknown parent, unless the setting `lenient_parent` is on (docs/conformance,
        A-11).
        """
        condition = self._path_conditions.condition(snapshot, read.principal.tenant, read.ids, read.policy)
        if condition is not None:
            return condition
        if self._settings.lenient_parent:
            return MATCH_NONE
        raise not_found_error(self._route, snapshot, read.ids, read.principal, read.policy)


def _records_on_page(params: QueryParams, total: int) -> int:
    """Return the number of records in the response, which is `X-Count` (docs/conformance, Q-22)."""
    remaining = max(total - params.offset, 0)
    return remaining if params.limit is None else min(params.limit, remaining)


class _NotCached:
    """Type of the marker for a missing cache entry, as None is the condition of an unknown parent."""


_NOT_CACHED = _NotCached()


class PathConditionCache:
    """Cache of the conditions for the paths of one route, so that parents are not looked up again. Thread-safe.

    An entry is valid for one revision of a tenant and one policy.
    """

    MAX_ENTRIES = 2048

    def __init__(self, route: ReadRoute) -> None:
        self._route = route
        self._conditions: LRUCache[tuple[str, int, Ids, AccessPolicy], Where | None] = LRUCache(self.MAX_ENTRIES)

    def condition(self, snapshot: Snapshot, tenant: str, ids: Ids, policy: AccessPolicy) -> Where | None:
        """Return the condition that selects the records of a path, or None if a parent is unknown to the caller."""
        if not self._route.parents:
            return self._restricted_condition(snapshot, ids, policy)
        key = (tenant, snapshot.revision, ids, policy)
        cached = self._conditions.get(key, _NOT_CACHED)
        if not isinstance(cached, _NotCached):
            return cached
        condition = None
        if self._route.parents_exist(snapshot, ids, policy.rows):
            condition = self._restricted_condition(snapshot, ids, policy)
        self._conditions.put(key, condition)
        return condition

    def _restricted_condition(self, snapshot: Snapshot, ids: Ids, policy: AccessPolicy) -> Where:
        if policy is UNRESTRICTED:
            return self._route.condition(snapshot, ids)
        if self._route.follows and policy.is_redacted(self._route.follows):
            return MATCH_NONE
        return policy.restrict_path(self._route.condition(snapshot, ids), self._route.resource_type.name)
