"""The pull feed of changes under Chalk's root: what changed after a number, in the order in which it did."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from flask import Blueprint, Request, Response, request
from flask_httpauth import HTTPTokenAuth

from backends import And, Compare, In, OrderBy, Query, Snapshot
from chalk_flask.api.auth.authentication import current_principal
from chalk_flask.api.errors import ApiError
from chalk_flask.api.public_url import request_base_url
from chalk_flask.api.reads import serialization
from chalk_flask.api.routes import ROOTS, ROUTES
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS
from chalk_flask.permissions.scopes import ROSTER, ROSTER_CORE, scope_satisfied
from chalk_flask.roster.changes import sequence
from chalk_flask.services import Services

__all__ = ["blueprint"]

ROOT = ROOTS[0]
PATH = f"{ROOT.path}/changes"

LIMIT, MOST = 500, 10_000
LONGEST = 30
"""Seconds that a request may wait for something to happen."""
LOOK = 0.1
"""Seconds between two looks while a request waits."""
WAITING = 8
"""So many requests wait at once, since each holds a thread; one more is answered as if it did not want to wait."""

NAMES = ("since", "limit", "wait", "include", "began")
EMPTY = "empty"
"""Said by `began` in the `next` of a tenant without a roster: who goes on from there has not seen its first load."""

_NUMBER = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class FeedParams:
    """What the parameters say; `since` None is "from now on", `empty` that the follower began on an empty tenant."""

    since: int | None
    limit: int
    wait: int
    records: bool
    empty: bool


def blueprint(chalk: Services, bearer: HTTPTokenAuth) -> Blueprint:
    """The route of the feed."""
    made = Blueprint("feed", __name__)
    places = threading.BoundedSemaphore(WAITING)

    def changes() -> Response:
        grant = current_principal()
        _check(grant)
        asked = _asked(request)
        site = request_base_url(request, chalk.settings.public_url)
        body = _answer(chalk, grant, asked, site)
        if not body["changes"] and asked.wait and places.acquire(blocking=False):
            try:
                body = _waited(chalk, grant, _going_on(asked, body["sequence"]), site)
            finally:
                places.release()
        text = orjson.dumps(body)
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        return Response(text, headers=[*headers, ("Link", f'<{body["next"]}>; rel="next"')])

    guarded = bearer.login_required(role=[ROSTER, ROSTER_CORE])(changes)
    made.add_url_rule(PATH, "getChanges", guarded, provide_automatic_options=False)
    return made


def _check(grant: Principal) -> None:
    """Raises Problem (403) for a bearer who sees a part only: one could not learn that a record left that part."""
    limits = grant.restrictions
    if limits.redacted or (limits.orgs, limits.grades, limits.classes) != (NO_RESTRICTIONS.orgs,) * 3:
        raise ApiError(403, "A token that is limited to some records or fields cannot follow changes: read instead.")


def _asked(now: Request) -> FeedParams:
    given: dict[str, str] = {}
    for name, value in now.args.items(multi=True):
        if name not in NAMES or name in given:
            raise ApiError(
                400, f"{name[:80]!r} is not a parameter here, or stands twice; there are {', '.join(NAMES)}."
            )
        given[name] = value
    if given.get("include", "records") not in ("records", "ids"):
        raise ApiError(400, "include is records or ids.")
    if given.get("began", EMPTY) != EMPTY:
        raise ApiError(400, f"began is {EMPTY}, where `next` has it.")
    since = None if given.get("since") == "latest" else _number(given, "since", 0, None, 10**15)
    wait = _number(given, "wait", 0, 0, LONGEST)
    limit = _number(given, "limit", 1, LIMIT, MOST)
    return FeedParams(since, limit, wait, given.get("include") != "ids", "began" in given)


def _going_on(asked: FeedParams, reached: int) -> FeedParams:
    """The same, from the number that was reached on."""
    return replace(asked, since=reached, empty=reached == 0)


def _number(given: Mapping[str, str], name: str, least: int, otherwise: int | None, most: int) -> int:
    text = given.get(name)
    if text is None and otherwise is not None:
        return otherwise
    if text is None or not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        extra = ", or the word latest" if name == "since" else ""
        raise ApiError(400, f"{name} is a whole number from {least} to {most}{extra}.")
    return int(text)


def _waited(chalk: Services, grant: Principal, asked: FeedParams, site: str) -> dict[str, Any]:
    """The answer as soon as there is a change, or at the end of the time."""
    deadline = time.monotonic() + asked.wait
    while True:
        stamp = chalk.store.version(grant.tenant)
        body = _answer(chalk, grant, asked, site)
        if body["changes"]:
            return body
        while chalk.store.version(grant.tenant) == stamp:
            if time.monotonic() >= deadline:
                return body
            time.sleep(LOOK)


def _answer(chalk: Services, grant: Principal, asked: FeedParams, site: str) -> dict[str, Any]:
    with chalk.store.read(grant.tenant) as snapshot:
        last = sequence.last_sequence(snapshot)
        since = last if asked.since is None else asked.since
        if since < _known(snapshot, asked) or since > last:
            raise ApiError(
                410,
                f"What changed after {since} is not known any more: read everything again, after asking for"
                f" changes?since=latest, and follow from there.",
            )
        notes = _notes(snapshot, grant, since, last, asked.limit)
        changes = list(_changes(snapshot, notes, site + ROOT.path, asked.records))
    reached = notes[-1]["sequence"] if len(notes) == asked.limit else last
    follow = "".join(f"&{name}={value}" for name, value in _kept(_going_on(asked, reached)).items())
    return {
        "changes": changes,
        "sequence": reached,
        "more": reached < last,
        "next": f"{site}{PATH}?since={reached}{follow}",
    }


def _known(snapshot: Snapshot, asked: FeedParams) -> int:
    """The number since which all is known. The first load lies before it, which a full read has in it: 0 is as good as
    its number, unless the follower has said that there was nothing to read."""
    purged = sequence.oldest_known(snapshot)
    return 0 if purged == sequence.FIRST_LOAD and not asked.empty else purged


def _kept(asked: FeedParams) -> dict[str, object]:
    kept: dict[str, object] = {"limit": asked.limit} if asked.limit != LIMIT else {}
    kept |= {"wait": asked.wait} if asked.wait else {}
    kept |= {} if asked.records else {"include": "ids"}
    return kept | ({"began": EMPTY} if asked.empty else {})


def _notes(snapshot: Snapshot, grant: Principal, since: int, last: int, limit: int) -> list[dict[str, Any]]:
    """The first `limit` notes after a number that the bearer may read, in order.

    They are looked for in windows that grow, since a page counts all that matches.
    """
    found: list[dict[str, Any]] = []
    window = limit
    while since < last and len(found) < limit:
        within = Compare(sequence.FIELD, ">", float(since)), Compare(sequence.FIELD, "<=", float(since + window))
        where = And((*within, In("collection", _readable(grant))))
        asked = Query(sequence.COLLECTION, where, (OrderBy(sequence.FIELD),), limit=limit - len(found))
        found += orjson.loads(b"[%b]" % snapshot.find(asked).body())
        since, window = since + window, window * 4
    return found


def _readable(grant: Principal) -> tuple[str, ...]:
    """The collections that the scopes open as a whole."""
    whole = {route.resource.name: route.scope for route in ROUTES if route.path == f"/{route.resource.name}"}
    return tuple(
        name
        for name, scope in whole.items()
        if scope_satisfied(grant.scopes, scope) and name not in grant.restrictions.denied
    )


def _changes(snapshot: Snapshot, notes: list[dict[str, Any]], root: str, records: bool) -> Iterator[dict[str, Any]]:
    keys: dict[str, list[str]] = {}
    for note in notes:
        keys.setdefault(note["collection"], []).append(note["sourcedId"])
    bodies = {name: snapshot.get_many(name, these) for name, these in keys.items()}
    for note in notes:
        resource: ResourceType = RESOURCES[note["collection"]]
        body = bodies[resource.name][note["sourcedId"]]
        what = "updated" if resource.is_active(body) else "deleted"
        change: dict[str, Any] = {
            "sequence": note["sequence"],
            "type": f"{resource.singular_name}.{what}",
            "entity": resource.singular_name,
            "sourcedId": note["sourcedId"],
        }
        if records:
            change["record"] = orjson.Fragment(b"".join(serialization.render_documents([body], root, None)))
        yield change
