"""Exits for records: outputs and writes under every kind of restriction reveal and change nothing that is hidden.

The requests are generated from the routes of the application, so a new route takes part at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import orjson
import pytest
from flask import Flask, Response, request
from werkzeug.routing import Rule

from chalk_flask import create_app
from chalk_flask.api.routes import WRITE_ROUTES
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.outbox.event import ENTITIES
from tests.api.writes.conftest import Tool
from tests.conftest import services_of
from tests.outbox.conftest import sent_events, subscribe
from tests.permissions.restricted_reads import REFERENCES, Restrictions, Row, class_ids, redact, visible_roster
from tests.support.access.restricted_exits import (
    KINDS,
    OTHER_BLUEPRINTS,
    WHOLE,
    differing,
    every_path_of,
    hidden_words,
    leaks,
    paths_of,
    redacted_members,
    restricted_tool,
    rules_of,
    seen_rows,
    store_roster,
    stored_bodies,
    stored_roster,
    words_in,
)
from tests.support.roster_writes import write_rows


@pytest.fixture
def whole() -> Iterator[Flask]:
    """Application with the roster of unique words."""
    app = create_app(storage="memory:")
    store_roster(app)
    yield app
    services_of(app).store.close()


def find_leaks(app: Flask, kinds: dict[str, Restrictions]) -> tuple[int, list[str]]:
    """Request every route under every kind of restriction. Return the number of responses and descriptions of leaks."""
    roster, number, found = stored_roster(app), 0, []
    for turn, (kind, restrictions) in enumerate(kinds.items()):
        tool, hidden = restricted_tool(app, restrictions), hidden_words(roster, restrictions)
        for place, rule in enumerate(rules_of(app)):
            if ("chalk." in rule.endpoint and turn % 2) or ("ims." in rule.endpoint and not turn % 2):
                continue  # both roots have the same routes
            for path in paths_of(rule, place + turn):
                for method in ("GET", "HEAD")[: 1 + (place % 7 == 0)]:
                    response = tool.client.open(path, method=method, headers={"Authorization": f"Bearer {tool.token}"})
                    number += 1
                    assert response.status_code < 500, (kind, path)
                    if leaked := leaks(response, restrictions, hidden):
                        found.append(f"{kind}: {method} {path}: {sorted(leaked)[:3]}")
    return number, found


WRITES = {(route.operation, route.method) for route in WRITE_ROUTES}

WITHOUT_ROSTER = {"token"}
"""Operations that read no records of a roster."""


def unanswered_routes(app: Flask) -> list[str]:
    """Return the routes of reads to which every generated request of an unrestricted client fails."""
    tool = Tool(app)
    return [
        rule.rule
        for rule in rules_of(app)
        if "GET" in (rule.methods or ()) and operation_of(rule) not in WITHOUT_ROSTER and not is_answered(tool, rule)
    ]


def is_answered(tool: Tool, rule: Rule) -> bool:
    headers = {"Authorization": f"Bearer {tool.token}"}
    return any(tool.client.get(path, headers=headers).status_code == 200 for path in every_path_of(rule))


def operation_of(rule: Rule) -> str:
    operation: str = rule.endpoint.rpartition(".")[2]
    return operation


def untested_operations(app: Flask) -> set[tuple[str, str]]:
    """Return operation and method of routes that neither read nor are tested as writes."""
    rules = [rule for rule in app.url_map.iter_rules() if not rule.endpoint.startswith(OTHER_BLUEPRINTS)]
    operations = {(operation_of(rule), method) for rule in rules for method in rule.methods or ()}
    others = {item for item in operations if item[1] not in ("GET", "HEAD", "OPTIONS")} - WRITES
    return {item for item in others if item[0] not in WITHOUT_ROSTER}


def test_every_route_takes_part_in_these_tests(whole: Flask) -> None:
    """A route that rejects every generated request reveals nothing in these tests, regardless of its other responses.

    Add its query string to `QUERIES` or its ids to `_COLLECTIONS`, or test its method as writes are tested.
    """
    change_gradebook(whole)
    assert unanswered_routes(whole) == []
    assert untested_operations(whole) == set()


def test_route_without_tests_is_detected(whole: Flask) -> None:
    def respond() -> Response:
        return Response(status=200 if "id" in request.args else 400)

    whole.add_url_rule("/ims/oneroster/v1p1/cards", "card", respond)
    whole.add_url_rule("/ims/oneroster/v1p1/search", "search", respond, methods=["POST"])
    assert unanswered_routes(whole) == ["/ims/oneroster/v1p1/cards"]
    assert untested_operations(whole) == {("search", "POST")}


def change_gradebook(app: Flask) -> None:
    """Change every gradebook record, so that the change feed lists all of them, and delete some."""
    tool = Tool(app)
    for route in WRITE_ROUTES:
        if route.method == "PUT":
            name, singular = route.resource_type.name, route.resource_type.singular_name
            for record in (tool.get(f"/{name}").json or {})[name]:
                assert tool.send(f"/{name}/{record['sourcedId']}", {singular: record}).status_code == 200
    assert tool.delete(f"/results/{WHOLE['results'][1]['sourcedId']}").status_code == 204


@pytest.mark.reading("L-01", "L-05", "L-06", "L-07", "F-05")
def test_no_route_reveals_what_restrictions_hide(whole: Flask) -> None:
    change_gradebook(whole)
    requests, found = find_leaks(whole, KINDS)
    assert found == []
    assert requests > 2000


def test_output_without_the_serializer_is_detected(whole: Flask) -> None:
    store = services_of(whole).store

    def respond(key: str) -> Response:
        with store.read("default") as snapshot:
            return Response(snapshot.get_many("users", [key])[key], headers=[("Content-Type", "application/json")])

    whole.add_url_rule("/ims/oneroster/v1p1/cards/users/<key>", "card", respond)
    for kind in ("orgs", "grades", "denied users", "contacts"):
        assert find_leaks(whole, {kind: KINDS[kind]})[1], kind


def sent_by_webhooks(app: Flask, restrictions: Restrictions) -> Iterator[Row]:
    """Yield the events for webhooks with these orgs and fields, after a change and the deletion of every record."""
    fields = [path.removesuffix(".*") for path in restrictions.redacted]
    entities = list(ENTITIES)
    for mode in ("per_entity", "batched"):
        orgs = restrictions.orgs and list(restrictions.orgs)
        subscribe(app, mode, orgs=orgs, excluded=fields, entities=entities, mode=mode, full=True)
    for status in ("active", "tobedeleted"):
        changes = {name: [with_class_only(row) | {"status": status} for row in WHOLE[name]] for name in RESOURCES}
        write_rows(app, changes)
    write_rows(app, WHOLE)
    yield from sent_events(app, "per_entity")
    yield from sent_events(app, "batched")


def with_class_only(row: Row) -> Row:
    """Return the row without metadata other than the classes of a category, which decide who sees it."""
    return row | {"metadata": {name: value for name, value in row["metadata"].items() if name == "classId"}}


def seen_by_webhook(restrictions: Restrictions) -> Any:
    """Return the rows that a webhook sees: also all courses, and enrollments by their own school (L-09)."""
    seen = seen_rows(WHOLE, restrictions)
    courses = [row if row.get("org") in seen["orgs"] else without(row, "org") for row in WHOLE["courses"]]
    schools = restrictions.orgs
    enrollments = [row for row in WHOLE["enrollments"] if schools is None or row["school"] in schools]
    return seen, [redact(row, restrictions) for row in (*courses, *enrollments)]


def without(row: Row, member: str) -> Row:
    return {name: value for name, value in row.items() if name != member}


@pytest.mark.reading("L-09")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].orgs or KINDS[kind].redacted])
def test_no_webhook_reveals_what_restrictions_hide(whole: Flask, kind: str) -> None:
    restrictions = KINDS[kind]
    hidden = words_in(WHOLE) - words_in(seen_by_webhook(restrictions))
    events = list(sent_by_webhooks(whole, restrictions))
    assert [sorted(words_in(event) & hidden) for event in events if words_in(event) & hidden] == []
    assert list(redacted_members(events, restrictions)) == []
    assert words_in(events) & words_in(WHOLE)


WRITTEN = [route.resource_type for route in WRITE_ROUTES if route.method == "PUT"]


def writes_of(tool: Tool, seen: dict[str, dict[str, Row]]) -> Iterator[tuple[str, str, str, Any]]:
    """Yield method, collection, id and payload of writes to every gradebook record, visible or not, and to new ones.

    Visible records are sent as they are seen, with one change. Hidden ones are sent whole, as a guess.
    """
    for name, singular in ((of.name, of.singular_name) for of in WRITTEN):
        for row in [*WHOLE[name], {**WHOLE[name][0], "sourcedId": "new"}]:
            key = row["sourcedId"]
            body = tool.get(f"/{name}/{key}").json if key in seen[name] else None
            record = (body or {}).get(singular) or with_references(name, seen[name].get(key, row))
            change = {"scoreDate": "2024-01-01"} if name == "results" else {"title": "Changed"}
            guesses = {member: row[member] for member in ("comment", "description", "metadata") if member in row}
            yield "PUT", name, key, {singular: record | change}
            yield "PUT", name, key, {singular: with_references(name, row) | guesses}
            yield "PUT", name, key, {singular: record | {"metadata": {"plain": 1, "secret": {"open": 2}}}}
            yield "PUT", name, key, {singular: record | {"status": "tobedeleted"}}
            if name == "lineItems":
                moved = {"class": {"sourcedId": WHOLE["classes"][1]["sourcedId"]}}
                yield "PUT", name, key, {singular: with_references(name, row) | moved}
                yield "PUT", name, key, {singular: without(without(record, "category"), "gradingPeriod")}
            yield "DELETE", name, key, None


def with_references(name: str, row: Row) -> Row:
    return {member: {"sourcedId": value} if member in REFERENCES[name] else value for member, value in row.items()}


def check_effects(before: dict[str, list[Row]], after: dict[str, list[Row]], restrictions: Restrictions) -> int:
    """Check that only visible records changed, and nothing hidden in them. Return the number of changed records."""
    visible_before, visible_after = visible_roster(before, restrictions), visible_roster(after, restrictions)
    visible_items = {row["sourcedId"] for row in visible_before["lineItems"]}
    shared = {row["category"] for row in before["lineItems"] if row["sourcedId"] not in visible_items}
    changes = 0
    classes = {row["sourcedId"] for row in visible_before["classes"]}
    for name in RESOURCES:
        keys = [{row["sourcedId"] for row in visible[name]} for visible in (visible_before, visible_after)]
        for old, new in differing(before[name], after[name]):
            assert new is not None
            assert old is None or new["sourcedId"] in keys[0], (name, old, new)
            assert name != "categories" or new["sourcedId"] not in shared, (old, new)
            assert new["sourcedId"] in keys[1], (name, old, new)
            default = {"gradingPeriod"} if old is None else set()  # the service chooses it for a new record (W-07)
            assert hidden_values(name, new, restrictions, default) == hidden_values(name, old or {}, restrictions)
            hidden_classes = [[key for key in class_ids(one) if key not in classes] for one in (old or {}, new)]
            assert hidden_classes[0] == hidden_classes[1], (old, new)
            changes += 1
    return changes


def hidden_values(name: str, row: Row, restrictions: Restrictions, ignored: Collection[str] = ()) -> Row:
    """Return the redacted values and the references to denied collections of a row."""
    denied = {member for member, target in REFERENCES[name].items() if target in restrictions.denied}
    hidden = {member: row[member] for member in row if member in denied or restrictions.redacts(member)}
    for path in restrictions.redacted:
        member, _, part = path.partition(".")
        if part and not restrictions.redacts(member) and member in row:
            hidden[path] = list(values_at(row[member], part.removesuffix(".*")))
    return {path: value for path, value in hidden.items() if value != [] and path not in ignored}


def values_at(value: Any, path: str) -> Iterator[Any]:
    """Yield the values at a path, also in each element of lists."""
    if isinstance(value, list):
        for element in value:
            yield from values_at(element, path)
    elif isinstance(value, dict):
        name, _, rest = path.partition(".")
        if name in value:
            yield from values_at(value[name], rest) if rest else [value[name]]


@pytest.mark.reading("W-04", "W-08", "W-14", "W-15")
@pytest.mark.parametrize("kind", KINDS)
def test_no_write_changes_or_reveals_what_restrictions_hide(whole: Flask, kind: str) -> None:
    restrictions = KINDS[kind]
    tool, seen = restricted_tool(whole, restrictions), seen_rows(WHOLE, restrictions)
    before, bodies, hidden = stored_roster(whole), stored_bodies(whole), hidden_words(WHOLE, restrictions)
    unknown = {of.name: comparable(tool.delete(f"/{of.name}/unknown")) for of in WRITTEN}
    changed = 0
    for method, name, key, payload in list(writes_of(tool, seen)):
        response = tool.send(f"/{name}/{key}", payload or {}, method) if payload else tool.delete(f"/{name}/{key}")
        context = (kind, method, name, key, payload, response.text)
        assert response.status_code in (200, 201, 204, 403, 404, 422), context
        sent = words_in(orjson.dumps(payload).decode())
        assert leaks(response, restrictions, hidden - sent) == set(), context
        exists = key != "new"
        if exists and key not in seen[name]:
            assert comparable(response, key) == unknown[name], context
        if stored_bodies(whole) != bodies:
            assert response.status_code < 300, context
            changed += check_effects(before, stored_roster(whole), restrictions)
            store_roster(whole)
    assert changed > 0 or kind in ("no orgs",), "the writes have effects"


def comparable(response: Any, key: str = "") -> tuple[int, str]:
    """Return status and message of a response, with `unknown` in place of the id of the request."""
    message = (response.json or {}).get("message", "")
    return response.status_code, message.replace(f"'{key}'", "'unknown'")


@pytest.mark.reading("L-07", "W-14")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].redacted and not KINDS[kind].orgs])
def test_responses_to_writes_do_not_depend_on_redacted_values(whole: Flask, kind: str) -> None:
    """A second service stores other words in the redacted members. Both respond alike to the same writes."""
    restrictions = KINDS[kind]
    other = create_app(storage="memory:")
    twin = {name: [with_other_values(row, restrictions) for row in rows] for name, rows in WHOLE.items()}
    store_roster(other, twin)
    tool, second = restricted_tool(whole, restrictions), restricted_tool(other, restrictions)
    seen = seen_rows(WHOLE, restrictions)
    for method, name, key, payload in list(writes_of(tool, seen)):
        responses = [
            (one.send(f"/{name}/{key}", payload, method) if payload else one.delete(f"/{name}/{key}"))
            for one in (tool, second)
        ]
        assert without_varying(responses[0]) == without_varying(responses[1]), (method, name, key, payload)
    assert twin != WHOLE or kind == "references"
    services_of(other).store.close()


def without_varying(response: Any) -> tuple[Any, ...]:
    """Return what is the same in two services: not the timestamp of a write, nor the id of a message."""
    body = response.json or {}
    records = {name: value for name, value in body.items() if name != "statusInfoSet"}
    for record in records.values():
        if isinstance(record, dict):
            stamp = record.pop("dateLastModified", "")
            record["is_new"] = not stamp.startswith("2024")
    return response.status_code, records, response.headers.get("Content-Length") if not records else ""


def with_other_values(row: Row, restrictions: Restrictions) -> Row:
    """Return the row with other words in its redacted members, except references."""
    text = orjson.dumps({name: value for name, value in row.items() if name != "sourcedId"}).decode()
    changed = orjson.loads(text)
    for path in restrictions.redacted:
        member, _, part = path.partition(".")
        if member in changed and isinstance(changed[member], (str, float, dict, list)) and member not in ALL_REFERENCES:
            changed[member] = replaced(changed[member], part.removesuffix("*").removesuffix("."))
    return {"sourcedId": row["sourcedId"], **changed}


ALL_REFERENCES = frozenset(member for members in REFERENCES.values() for member in members)


def replaced(value: Any, path: str) -> Any:
    """Return the value with other words and numbers at a path."""
    name, _, rest = path.partition(".")
    match value:
        case list():
            return [replaced(element, path) for element in value]
        case dict():
            return {key: replaced(member, rest) if not path or key == name else member for key, member in value.items()}
        case str():
            return value.replace("word", "term") if not path else value
        case float() | int():
            return value + 1 if not path else value
        case _:
            return value
