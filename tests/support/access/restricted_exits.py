"""Restrictions of every kind, a roster whose values are unique words, and a search for hidden words in outputs.

`tests.permissions.restricted_reads` says in plain Python what each kind hides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, product
from typing import Any
from urllib.parse import quote

import orjson
from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from backends import Record
from chalk_flask.oneroster.schemas import FILES, RESOURCES
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL
from tests.api.writes.conftest import Tool
from tests.conftest import services_of
from tests.permissions.restricted_reads import REFERENCES, Restrictions, Row, redact, visible_roster
from tests.support.small_roster import DELETED, ROSTER, enrollment, line_item, result, row, user

WORD = re.compile(r"word[0-9]{4}|[0-9]{4}\.125")
"""Unique value: an id, a text, or a score."""

TEXTS = (
    *("name", "title", "identifier", "username", "givenName", "familyName", "middleName", "email", "phone", "sms"),
    *("comment", "description", "location", "classCode", "courseCode", "cityOfBirth", "vendorResourceId"),
)

_ADDED: dict[str, list[Row]] = {
    "users": [user("u-10", "student", "Jo", "Wu", ["s-2", "s-3"], grades=["10"], agents=["u-5", "u-6"])],
    "enrollments": [enrollment("e-11", "c-1", "s-1", "u-10", "student")],
    "categories": [row("cat-7", title="Of two classes", metadata={"classId": ["c-1", "c-3"]})],
    "lineItems": [line_item("l-5", "c-3", "cat-3"), line_item("l-6", "c-3", "cat-4", **DELETED)],
    "results": [
        result("x-6", "l-5", "u-3", 1),
        result("x-7", "l-1", "u-10", 2),
        result("x-8", "l-6", "u-3", 3, **DELETED),
    ],
}

_numbers = count(1000)


def _word() -> str:
    return f"word{next(_numbers)}"


def _with_words(rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    keys = {key: _word() for key in sorted({row["sourcedId"] for some in rows.values() for row in some})}
    return {name: [_row_with_words(name, row, keys) for row in some] for name, some in rows.items()}


def _row_with_words(name: str, row: Row, keys: Mapping[str, str]) -> Row:
    changed = {**row, "sourcedId": keys[row["sourcedId"]]}
    for member in REFERENCES[name]:
        value = row.get(member)
        if value is not None:
            changed[member] = [keys[key] for key in value] if isinstance(value, list) else keys[value]
    changed |= {member: _word() for member in TEXTS if member in row}
    changed |= {member: [_word()] for member in ("subjects",) if member in row}
    if name in ("results", "lineItems"):
        changed |= {member: next(_numbers) + 0.125 for member in ("score", "resultValueMax") if member in row}
    if name == "results":
        changed["comment"] = _word()
    if name == "users":
        changed["userIds"] = [{"type": "SIS", "identifier": _word()}]
        changed |= {member: _word() for member in ("phone", "sms", "middleName", "identifier")}
    nested = {"plain": _word(), "secret": {"note": _word(), "open": _word()}, "seats": [{"note": _word()}]}
    class_id = row.get("metadata", {}).get("classId")
    several = [keys[key] for key in class_id] if isinstance(class_id, list) else []
    changed["metadata"] = nested | ({"classId": several or keys[class_id]} if class_id else {})
    return changed


WHOLE = _with_words({name: [*rows, *_ADDED.get(name, [])] for name, rows in ROSTER.items()})


def keys_of(name: str, *positions: int) -> list[str]:
    """Return the ids of records at these positions of a collection."""
    return [WHOLE[name][position]["sourcedId"] for position in positions]


KINDS: dict[str, Restrictions] = {
    "orgs": Restrictions(orgs=keys_of("orgs", 1)),
    "other orgs": Restrictions(orgs=keys_of("orgs", 2)),
    "no orgs": Restrictions(orgs=[]),
    "grades": Restrictions(grades=["09"]),
    "classes": Restrictions(classes=keys_of("classes", 0)),
    "other classes": Restrictions(classes=keys_of("classes", 2)),
    "orgs and fields": Restrictions(orgs=keys_of("orgs", 1), redacted=["title", "comment", "metadata.secret"]),
    "grades and users": Restrictions(grades=["10"], denied=["users"]),
    **{f"denied {name}": Restrictions(denied=[name]) for name in RESOURCES},
    "names": Restrictions(redacted=["givenName", "familyName", "middleName", "username", "name", "title"]),
    "contacts": Restrictions(redacted=["email", "phone", "sms", "userIds.identifier", "agents", "identifier"]),
    "references": Restrictions(redacted=["parent", "children", "org", "resources", "gradingPeriod", "schoolYear"]),
    "grading": Restrictions(redacted=["comment", "score", "description", "subjects", "location"]),
    "limits": Restrictions(redacted=["resultValueMax", "classCode", "courseCode", "vendorResourceId", "cityOfBirth"]),
    "metadata": Restrictions(redacted=["metadata.*"]),
    "parts": Restrictions(redacted=["metadata.secret.note", "metadata.seats.note", "metadata.classId"]),
}
"""One case or more of every kind of restriction, by name."""


def store_roster(app: Flask, roster: Mapping[str, list[Row]] = WHOLE) -> None:
    """Replace the roster of an application."""
    records = RECORDS if roster is WHOLE else records_of(roster)
    with services_of(app).store.write("default") as transaction:
        for name in RESOURCES:
            keys = {record.key for record in records[name]}
            transaction.delete(name, [key for key in transaction.keys(name) if key not in keys])
            stored = transaction.get_many(name, list(keys))
            transaction.put(name, [record for record in records[name] if stored.get(record.key) != record.body])


def records_of(roster: Mapping[str, list[Row]]) -> dict[str, list[Record]]:
    """Return the records of a roster by collection."""
    return {name: [FILES[name].record(row) for row in rows] for name, rows in roster.items()}


RECORDS = records_of(WHOLE)


def restricted_tool(app: Flask, restrictions: Restrictions) -> Tool:
    """Return a client with every scope and these restrictions."""
    sets: dict[str, Any] = {
        name: None if (values := getattr(restrictions, name)) is None else frozenset(values)
        for name in ("orgs", "grades", "classes", "denied", "redacted")
    }
    token, _ = services_of(app).tokens.create("restricted", ALL, restrictions=AccessRestrictions(**sets))
    return Tool(app, token)


def stored_bodies(app: Flask) -> dict[str, Mapping[str, bytes]]:
    """Return the stored bodies of an application by collection and id."""
    with services_of(app).store.read("default") as snapshot:
        return {name: snapshot.get_many(name, list(snapshot.keys(name))) for name in RESOURCES}


def stored_roster(app: Flask) -> dict[str, list[Row]]:
    """Return the stored rows of an application, with references as ids."""
    return {name: list(map(RESOURCES[name].normalize, some.values())) for name, some in stored_bodies(app).items()}


def seen_rows(roster: Mapping[str, list[Row]], restrictions: Restrictions) -> dict[str, dict[str, Row]]:
    """Return what is visible of a roster by collection and id: rows, without hidden references and redacted members."""
    visible = visible_roster(roster, restrictions)
    return {name: {row["sourcedId"]: redact(row, restrictions) for row in rows} for name, rows in visible.items()}


def words_in(value: object) -> set[str]:
    """Return the unique words in a value."""
    return set(WORD.findall(orjson.dumps(value).decode() if not isinstance(value, str) else value))


def hidden_words(roster: Mapping[str, list[Row]], restrictions: Restrictions) -> set[str]:
    """Return the words of a roster that occur in nothing that is visible."""
    return words_in(roster) - words_in(seen_rows(roster, restrictions))


def leaks(response: TestResponse, restrictions: Restrictions, hidden: set[str]) -> set[str]:
    """Return the hidden words in a response that the request did not name, and the redacted members of its records."""
    text = response.get_data(as_text=True)
    request = response.request
    named = words_in(request.path + request.query_string.decode())
    found = (words_in(text + str(response.headers)) & hidden) - named
    return found | set(redacted_members(response.get_json(silent=True), restrictions))


def redacted_members(value: Any, restrictions: Restrictions) -> Iterator[str]:
    """Yield the redacted members of all records in a JSON value, at any depth."""
    if isinstance(value, dict):
        is_record = {"sourcedId", "status"} <= value.keys()
        yield from (name for name in value if is_record and restrictions.redacts(name))
    if isinstance(value, (dict, list)):
        for member in value.values() if isinstance(value, dict) else value:
            yield from redacted_members(member, restrictions)


QUERIES = {"getChanges": ["since=0&limit=10000", "since=0&include=ids"]}
"""Query strings of operations that require one."""


OTHER_BLUEPRINTS = ("console.", "monitoring.", "openapi.", "admin.")
"""Beginnings of the endpoints that serve no records of a roster."""


def rules_of(app: Flask) -> Iterator[Rule]:
    """Yield one rule of the API for each endpoint and number of ids: the shortest, so that aliases are left out.

    Pages of the console show records that they read through the API. Those for monitoring show numbers of records. The
    description of the API has examples of the demo, and imports reject restricted credentials.
    """
    chosen: dict[tuple[str, int, frozenset[str]], Rule] = {}
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(OTHER_BLUEPRINTS):
            continue
        place = rule.endpoint, len(rule.arguments), frozenset(rule.methods or ())
        if place not in chosen or len(rule.rule) < len(chosen[place].rule):
            chosen[place] = rule
    yield from chosen.values()


def paths_of(rule: Rule, number: int) -> Iterator[str]:
    """Yield paths of a rule with ids of the right collections, different ones for each number."""
    choices = _ids_of(rule)
    size = max(map(len, choices), default=1)
    for turn in range(min(size, 2)):
        yield from _paths_with(rule, [keys[(number + turn) % len(keys)] for keys in choices])


def every_path_of(rule: Rule) -> Iterator[str]:
    """Yield the paths of a rule with every combination of ids of the right collections."""
    for ids in product(*_ids_of(rule)):
        yield from _paths_with(rule, ids)


def _ids_of(rule: Rule) -> list[list[str]]:
    return [[row["sourcedId"] for row in WHOLE[name]] for name in _collections(rule.rule)]


def _paths_with(rule: Rule, ids: Iterable[str]) -> Iterator[str]:
    path = re.sub(r"<[^>]*>", "{}", rule.rule).format(*(quote(key, safe="") for key in ids))
    for query in QUERIES.get(rule.endpoint.rpartition(".")[2], [""]):
        yield f"{path}?{query}"


_COLLECTIONS = {"schools": "orgs", "students": "users", "teachers": "users", "lineitems": "lineItems"}
_COLLECTIONS |= {"terms": "academicSessions", "gradingPeriods": "academicSessions"}


def _collections(rule: str) -> list[str]:
    """Return the collection of each id in a path. An id after an unknown word is that of a user."""
    words = rule.split("/")
    names = [words[place - 1] for place, word in enumerate(words) if word.startswith("<")]
    return [name if name in WHOLE else _COLLECTIONS.get(name, "users") for name in names]


def differing(rows: Iterable[Row], others: Iterable[Row]) -> Iterator[tuple[Row | None, Row | None]]:
    """Yield pairs of rows with the same id that differ, except for the timestamp."""
    before, after = ({row["sourcedId"]: row for row in some} for some in (rows, others))
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if _without_timestamp(old) != _without_timestamp(new):
            yield old, new


def _without_timestamp(row: Row | None) -> Row | None:
    return None if row is None else {name: row[name] for name in row if name != "dateLastModified"}
