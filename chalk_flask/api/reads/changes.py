"""Change feed under Chalk's root: records that changed after a sequence number, in the order of their changes.

docs/conformance, F-01 to F-07, describes its behavior.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import orjson
from flask import Blueprint, Request, Response, request

from backends import CONTROL, And, Compare, In, OrderBy, Query, RecordId, Snapshot, read_first
from chalk_flask.api.auth.authentication import INVALID_TOKEN_CHALLENGE, current_principal
from chalk_flask.api.auth.concurrency import ConcurrencyLimiter
from chalk_flask.api.auth.rate_limits import Auth
from chalk_flask.api.errors import ApiError
from chalk_flask.api.public_url import request_base_url
from chalk_flask.api.reads.waiting_response import WaitingResponse
from chalk_flask.api.routes import READ_ROUTES, ROOTS
from chalk_flask.oneroster.fields.base import printable
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.policy import policy_for
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS
from chalk_flask.permissions.scopes import ROSTER, ROSTER_CORE, includes_scope
from chalk_flask.roster.changes import sequence
from chalk_flask.serialization import DocumentSerializer, RedactionCache, ReferenceLookup
from chalk_flask.services import Services

__all__ = ["changes_blueprint"]

ROOT = ROOTS[0]
PATH = f"{ROOT.path}/changes"

DEFAULT_LIMIT, MAX_LIMIT = 500, 10_000
MAX_PAGE_BYTES = 768 * 1024
"""Size of the stored records on a page. The server holds a whole page, so a page ends early if its records are large.

A larger record is alone on its page.
"""
MAX_PAGE_RECORDS = MAX_PAGE_BYTES // 256
"""More records never fit on a page, because none has fewer than 256 bytes."""
MAX_WAIT_SECONDS = 30
MAX_SEQUENCE = 10**15
MAX_QUOTED_CHARACTERS = 80

PARAMETERS = ("since", "limit", "wait", "include", "began")
EMPTY = "empty"
"""Value of `began` in the `next` link of a tenant without a roster.

A follower that continues from there has not read the first load. It gets 410 after the first load.
"""

_NUMBER = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class FeedParams:
    """Parsed query parameters.

    `since` None means "from now on". `began_empty` is True if the follower started on a tenant without a roster.
    """

    since: int | None
    limit: int
    wait_seconds: int
    include_records: bool
    began_empty: bool

    def next_page(self, sequence_number: int) -> FeedParams:
        """Return the parameters that continue after a sequence number."""
        return replace(self, since=sequence_number, began_empty=sequence_number == 0)


def changes_blueprint(services: Services, auth: Auth) -> Blueprint:
    """Return a blueprint with the route of the change feed."""
    blueprint = Blueprint("feed", __name__)
    view = auth.login_required(role=[ROSTER, ROSTER_CORE])(_ChangesView(services).respond)
    blueprint.add_url_rule(PATH, "getChanges", view, provide_automatic_options=False)
    return blueprint


class _ChangesView:
    """View of the change feed."""

    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._authenticator = services.authenticator
        self._public_url = services.settings.public_url
        self._query_seconds = services.settings.query_seconds
        self._long_polls = ConcurrencyLimiter(
            "long polls",
            services.metrics.streams("long_poll"),
            per_credential=services.settings.long_poll_limit_credential,
            per_address=services.settings.long_poll_limit_address,
        )
        self._redaction_cache = RedactionCache()

    def respond(self) -> Response:
        """Return the response to the current request. It may wait for a change."""
        principal = current_principal()
        _require_unrestricted(principal)
        params = _parse_params(request)
        base_url = request_base_url(request, self._public_url)
        page = self._page(principal, params, base_url)
        if page["changes"] or not params.wait_seconds:
            return _page_response(page)
        release = self._long_polls.acquire(principal, request)
        response = WaitingResponse(self._attempts(principal, params.next_page(page["sequence"]), base_url))
        response.call_on_close(release)
        return response

    def _attempts(self, principal: Principal, params: FeedParams, base_url: str) -> Iterator[Response | None]:
        """Yield the page as soon as it has a change, or an empty page after the wait time; until then None.

        Raises ApiError (401) if something changed after the credential ended.
        """
        deadline = time.monotonic() + params.wait_seconds
        while True:
            versions = self._versions(principal)
            page = self._page(principal, params, base_url)
            if page["changes"]:
                yield _page_response(page)
            while self._versions(principal) == versions:
                if time.monotonic() >= deadline:
                    yield _page_response(page)
                yield None
            principal = self._renew(principal)

    def _versions(self, principal: Principal) -> tuple[object, object]:
        """Return the versions of the roster and of the credentials, so that a wait ends when its credential does."""
        return self._store.version(principal.tenant), self._store.version(CONTROL)

    def _renew(self, principal: Principal) -> Principal:
        """Return the principal with the rules of now, which may differ from those at the start of the wait."""
        renewed = self._authenticator.renew(principal)
        if renewed is None:
            raise ApiError(401, challenge=INVALID_TOKEN_CHALLENGE)
        return renewed

    def _page(self, principal: Principal, params: FeedParams, base_url: str) -> dict[str, Any]:
        with self._store.read(principal.tenant, query_seconds=self._query_seconds) as snapshot:
            last = sequence.last_sequence(snapshot)
            since = last if params.since is None else params.since
            if since < _oldest_sequence(snapshot, params) or since > last:
                raise ApiError(
                    410,
                    f"The changes after {since} are no longer available. Request changes?since=latest, read everything"
                    f" again, and continue from the returned sequence.",
                )
            limit = min(params.limit, MAX_PAGE_RECORDS) if params.include_records else params.limit
            entries = _read_entries(snapshot, principal, since, last, limit)
            if params.include_records:
                changes = list(self._changes(snapshot, entries, principal, base_url + ROOT.path))
            else:
                changes = list(_changes_without_records(snapshot, entries))
        is_last = len(changes) == len(entries) < limit
        page_end = last if is_last else changes[-1]["sequence"]
        other_params = "".join(f"&{name}={value}" for name, value in _link_params(params.next_page(page_end)).items())
        return {
            "changes": changes,
            "sequence": page_end,
            "more": page_end < last,
            "next": f"{base_url}{PATH}?since={page_end}{other_params}",
        }

    def _changes(
        self,
        snapshot: Snapshot,
        entries: list[dict[str, Any]],
        principal: Principal,
        root_url: str,
    ) -> Iterator[dict[str, Any]]:
        """Yield the changes of the first entries with their records, as many as fit on a page."""
        lookup = ReferenceLookup(snapshot, principal.tenant, self._redaction_cache)
        policy = policy_for(principal)

        @cache
        def serializer(name: str) -> DocumentSerializer:
            return DocumentSerializer(RESOURCES[name], root_url, policy, lookup)

        count, bodies = read_first(snapshot, list(map(_record_id, entries)), MAX_PAGE_BYTES)
        for entry in entries[:count]:
            body = bodies[_record_id(entry)]
            change = _change(entry, is_active=ResourceType.is_active(body))
            change["record"] = orjson.Fragment(b"".join(serializer(entry["collection"]).render([body])))
            yield change


def _page_response(page: dict[str, Any]) -> Response:
    headers = [("Content-Type", "application/json"), ("Cache-Control", "private, no-store")]
    headers.append(("X-Count", str(len(page["changes"]))))
    return Response(orjson.dumps(page), headers=[*headers, ("Link", f'<{page["next"]}>; rel="next"')])


def _require_unrestricted(principal: Principal) -> None:
    """Raise ApiError (403) if the principal is restricted to some records or fields (docs/conformance, F-05).

    The feed could not report that a record is no longer visible to it.
    """
    access = principal.restrictions
    if access.redacted or (access.orgs, access.grades, access.classes) != (NO_RESTRICTIONS.orgs,) * 3:
        raise ApiError(
            403,
            "A credential that is restricted to some records or fields cannot use the change feed. Read the collections"
            " instead.",
        )


def _parse_params(current: Request) -> FeedParams:
    params: dict[str, str] = {}
    for name, value in current.args.items(multi=True):
        if name not in PARAMETERS:
            raise ApiError(
                400, f"Unknown parameter {name[:MAX_QUOTED_CHARACTERS]!r}. Use one of {', '.join(PARAMETERS)}."
            )
        if name in params:
            raise ApiError(400, f"The parameter {name} is repeated. Send it once.")
        params[name] = value
    params = {name: value for name, value in params.items() if value or name == "since"}
    if params.get("include", "records") not in ("records", "ids"):
        raise ApiError(400, f"include must be records or ids, not {printable(params['include'])}.")
    if params.get("began", EMPTY) != EMPTY:
        raise ApiError(400, f"began must be {EMPTY}, as in the next link, not {printable(params['began'])}.")
    since = None if params.get("since") == "latest" else _parse_number(params, "since", 0, None, MAX_SEQUENCE)
    wait_seconds = _parse_number(params, "wait", 0, 0, MAX_WAIT_SECONDS)
    limit = _parse_number(params, "limit", 1, DEFAULT_LIMIT, MAX_LIMIT)
    return FeedParams(since, limit, wait_seconds, params.get("include") != "ids", "began" in params)


def _parse_number(params: Mapping[str, str], name: str, minimum: int, default: int | None, maximum: int) -> int:
    text = params.get(name)
    if text is None and default is not None:
        return default
    if text is None or not _NUMBER.fullmatch(text) or not minimum <= int(text) <= maximum:
        alternative = ", or latest" if name == "since" else ""
        actual = "" if text is None else f", not {printable(text)}"
        raise ApiError(400, f"{name} must be a whole number from {minimum} to {maximum}{alternative}{actual}.")
    return int(text)


def _oldest_sequence(snapshot: Snapshot, params: FeedParams) -> int:
    """Return the oldest sequence number after which the feed has all changes.

    A full read includes the first load, so a follower may continue after 0. If it started on an empty tenant, it did
    not read the first load, and must start again.
    """
    oldest = sequence.oldest_resumable_sequence(snapshot)
    return 0 if oldest == sequence.FIRST_LOAD and not params.began_empty else oldest


def _link_params(params: FeedParams) -> dict[str, object]:
    """Return the parameters of the next link that differ from their defaults, without `since`."""
    link: dict[str, object] = {"limit": params.limit} if params.limit != DEFAULT_LIMIT else {}
    link |= {"wait": params.wait_seconds} if params.wait_seconds else {}
    link |= {} if params.include_records else {"include": "ids"}
    return link | ({"began": EMPTY} if params.began_empty else {})


def _read_entries(snapshot: Snapshot, principal: Principal, since: int, last: int, limit: int) -> list[dict[str, Any]]:
    """Return the first `limit` sequence entries after a sequence number that the principal may read, in order.

    Queries cover windows of growing size, because a page counts all matching records.
    """
    entries: list[dict[str, Any]] = []
    collections = _readable_collections(principal)
    window = limit
    while since < last and len(entries) < limit:
        bounds = Compare(sequence.FIELD, ">", float(since)), Compare(sequence.FIELD, "<=", float(since + window))
        where = And((*bounds, In("collection", collections)))
        query = Query(sequence.COLLECTION, where, (OrderBy(sequence.FIELD),), limit=limit - len(entries))
        entries += orjson.loads(b"[%b]" % snapshot.find(query).body())
        since, window = since + window, window * 4
    return entries


def _readable_collections(principal: Principal) -> tuple[str, ...]:
    """Return the collections that the principal may read."""
    scopes = {
        route.resource_type.name: route.scope for route in READ_ROUTES if route.path == f"/{route.resource_type.name}"
    }
    return tuple(
        name
        for name, scope in scopes.items()
        if includes_scope(principal.scopes, scope) and name not in principal.restrictions.denied
    )


def _changes_without_records(snapshot: Snapshot, entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    keys: dict[str, list[str]] = {}
    for entry in entries:
        keys.setdefault(entry["collection"], []).append(entry["sourcedId"])
    active = {
        (name, key)
        for name, some_keys in keys.items()
        for key, body in snapshot.get_each(name, some_keys)
        if ResourceType.is_active(body)
    }
    return (_change(entry, is_active=_record_id(entry) in active) for entry in entries)


def _change(entry: Mapping[str, Any], *, is_active: bool) -> dict[str, Any]:
    """Return the change of a sequence entry without its record."""
    entity = RESOURCES[entry["collection"]].singular_name
    return {
        "sequence": entry["sequence"],
        "type": f"{entity}.{'updated' if is_active else 'deleted'}",
        "entity": entity,
        "sourcedId": entry["sourcedId"],
    }


def _record_id(entry: Mapping[str, Any]) -> RecordId:
    return entry["collection"], entry["sourcedId"]
