"""What limits leave of a roster, read in plain Python from docs/conformance.md, without anything of the service."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
Roster = Mapping[str, list[Row]]

REFERENCES = {
    "orgs": {"parent": "orgs", "children": "orgs"},
    "academicSessions": {"parent": "academicSessions", "children": "academicSessions"},
    "resources": {},
    "courses": {"schoolYear": "academicSessions", "org": "orgs", "resources": "resources"},
    "classes": {"course": "courses", "school": "orgs", "terms": "academicSessions", "resources": "resources"},
    "users": {"orgs": "orgs", "agents": "users"},
    "demographics": {},
    "enrollments": {"class": "classes", "school": "orgs", "user": "users"},
    "categories": {},
    "lineItems": {"class": "classes", "category": "categories", "gradingPeriod": "academicSessions"},
    "results": {"lineItem": "lineItems", "student": "users"},
}


@dataclass(frozen=True)
class Limited:
    """The limits as the test drew them; None is no limit."""

    orgs: Collection[str] | None = None
    grades: Collection[str] | None = None
    classes: Collection[str] | None = None
    denied: Collection[str] = ()
    redacted: Collection[str] = ()

    def uncertain(self, name: str, member: str) -> bool:
        """Whether the order by this reference could tell the id of something that is hidden (L-05)."""
        if REFERENCES[name].get(member) in self.denied:
            return True
        by_org = self.orgs is not None
        by_person = by_org or self.grades is not None or self.classes is not None
        return {
            ("orgs", "parent"): by_org,
            ("orgs", "children"): by_org,
            ("courses", "org"): by_org,
            ("users", "orgs"): by_org,
            ("users", "agents"): by_person,
        }.get((name, member), False)

    def redacts(self, path: str) -> bool:
        """Whether the path is redacted, by its own name or by one that it begins with."""
        names = path.split(".")
        begins = {".".join(names[:n]) for n in range(1, len(names) + 1)}
        return any(each in begins or each.removesuffix(".*") in begins for each in self.redacted)


def left(roster: Roster, limits: Limited) -> dict[str, list[Row]]:
    """The rows that may be seen, with those of their references alone that lead to one of them."""
    kept = {name: [] if name in limits.denied else rows for name, rows in _rows(roster, limits).items()}
    keys = {name: {row["sourcedId"] for row in rows} for name, rows in kept.items()}
    return {name: [_pointing(row, REFERENCES[name], keys) for row in rows] for name, rows in kept.items()}


def _rows(roster: Roster, limits: Limited) -> dict[str, list[Row]]:
    found = dict(roster)

    def holds(allowed: Collection[str] | None, values: Iterable[str]) -> bool:
        return allowed is None or any(value in allowed for value in values)

    if limits.orgs is not None:
        parents = {org["sourcedId"]: org.get("parent") for org in roster["orgs"]}
        above = set(limits.orgs)
        while more := {parent for key in above if (parent := parents.get(key))} - above:
            above |= more
        found["orgs"] = [org for org in roster["orgs"] if org["sourcedId"] in above]
    found["classes"] = [
        row
        for row in roster["classes"]
        if holds(limits.orgs, [row["school"]]) and holds(limits.classes, [row["sourcedId"]])
    ]
    found["courses"] = [row for row in roster["courses"] if _course(row, roster, limits)]
    found["users"] = [row for row in roster["users"] if _user(row, roster, limits)]
    seen = {name: {row["sourcedId"] for row in rows} for name, rows in found.items()}
    found["demographics"] = [row for row in roster["demographics"] if row["sourcedId"] in seen["users"]]
    found["enrollments"] = [
        row
        for row in roster["enrollments"]
        if holds(limits.orgs, [row["school"]]) and row["class"] in seen["classes"] and row["user"] in seen["users"]
    ]
    found["lineItems"] = [row for row in roster["lineItems"] if row["class"] in seen["classes"]]
    items = {row["sourcedId"] for row in found["lineItems"]}
    found["results"] = [
        row for row in roster["results"] if row["lineItem"] in items and row["student"] in seen["users"]
    ]
    return found


def _course(course: Row, roster: Roster, limits: Limited) -> bool:
    taught = [row for row in roster["classes"] if row["course"] == course["sourcedId"]]
    here = (
        limits.orgs is None or course.get("org") in limits.orgs or any(row["school"] in limits.orgs for row in taught)
    )
    return here and (limits.classes is None or any(row["sourcedId"] in limits.classes for row in taught))


def _user(user: Row, roster: Roster, limits: Limited) -> bool:
    if limits.orgs is not None and not set(user["orgs"]) & set(limits.orgs):
        return False
    if limits.grades is not None and user["role"] == "student":
        wanted = {grade.lower() for grade in limits.grades}
        if not wanted & {grade.lower() for grade in user.get("grades", [])}:
            return False
    return limits.classes is None or any(
        row["user"] == user["sourcedId"] and row["class"] in limits.classes for row in roster["enrollments"]
    )


def _pointing(row: Row, references: Mapping[str, str], keys: Mapping[str, set[str]]) -> Row:
    row = copy.deepcopy(row)
    for member, target in references.items():
        if isinstance(row.get(member), list):
            row[member] = [key for key in row[member] if key in keys[target]]
        elif row.get(member) not in keys[target]:
            row.pop(member, None)
    return row


def redacted(document: Row, limits: Limited) -> Row:
    """A document as it is served, without its redacted members."""
    whole = {name: value for name, value in document.items() if not limits.redacts(name)}
    for name in ("userIds", "metadata"):
        if name in whole and not (remaining := _pruned(whole[name], name, limits)):
            del whole[name]
        elif name in whole:
            whole[name] = remaining
    return whole


def _pruned(value: Any, path: str, limits: Limited) -> Any:
    if isinstance(value, list):
        return [kept for item in value if (kept := _pruned(item, path, limits)) or not item]
    if isinstance(value, dict):
        members = {name: value[name] for name in value if not limits.redacts(f"{path}.{name}")}
        pruned = {name: _pruned(member, f"{path}.{name}", limits) for name, member in members.items()}
        return {name: member for name, member in pruned.items() if _something(member) or not _something(members[name])}
    return value


def _something(value: Any) -> bool:
    return value not in ({}, [])
