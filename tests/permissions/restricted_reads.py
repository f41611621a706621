"""Effect of access restrictions on a roster, in plain Python after docs/conformance, L-01 to L-07.

Nothing in_orgs uses the code of the service, so that it can serve as the expected result.
"""

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


CLASS_ID = "metadata.classId"
"""Path of the class to which a category is assigned."""


@dataclass(frozen=True)
class Restrictions:
    """Access restrictions of a token. None does not restrict."""

    orgs: Collection[str] | None = None
    grades: Collection[str] | None = None
    classes: Collection[str] | None = None
    denied: Collection[str] = ()
    redacted: Collection[str] = ()

    def may_hide_reference(self, name: str, member: str) -> bool:
        """Return True if the reference of a visible record may lead to a hidden one (L-05).

        The class in the metadata of a category counts as a reference (L-12).
        """
        if (name, member) == ("categories", CLASS_ID):
            return self.orgs is not None or self.classes is not None or "classes" in self.denied
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
        """Return True if the path or a part that it starts with is redacted."""
        names = path.split(".")
        prefixes = {".".join(names[:n]) for n in range(1, len(names) + 1)}
        redacted = {name.removesuffix(".*") for name in self.redacted}
        if redacted & {"parent", "children"}:  # both show the same link
            redacted |= {"parent", "children"}
        if "title" in redacted:  # the code of a course without one
            redacted.add("courseCode")
        return not redacted.isdisjoint(prefixes)


def visible_roster(roster: Roster, restrictions: Restrictions) -> dict[str, list[Row]]:
    """Return the visible rows, with references to visible rows only."""
    visible = {name: [] if name in restrictions.denied else rows for name, rows in _rows(roster, restrictions).items()}
    keys = {name: {row["sourcedId"] for row in rows} for name, rows in visible.items()}
    shown = {
        name: [_with_visible_references(row, REFERENCES[name], keys) for row in rows] for name, rows in visible.items()
    }
    if "classes" in restrictions.denied:
        return shown | {"categories": [_without_class(row) for row in shown["categories"]]}
    return shown | {"categories": [_with_visible_class(row, keys["classes"]) for row in shown["categories"]]}


def class_ids(category: Row) -> list[str]:
    """Return the ids of the classes to which a category is assigned."""
    value = category.get("metadata", {}).get("classId", [])
    return [key for key in (value if isinstance(value, list) else [value]) if key]


def _without_class(category: Row) -> Row:
    """Return the category without the classes in its metadata."""
    metadata = {name: value for name, value in category.get("metadata", {}).items() if name != "classId"}
    rest = {name: value for name, value in category.items() if name != "metadata"}
    return rest | ({"metadata": metadata} if metadata else {})


def _with_visible_class(category: Row, keys: set[str]) -> Row:
    """Return the category without the ids of hidden classes in its metadata."""
    visible = [key for key in class_ids(category) if key in keys]
    if visible == class_ids(category):
        return category
    shown = {"classId": visible} if visible else {}
    metadata = {
        name: shown.get(name, value) for name, value in category["metadata"].items() if name != "classId" or shown
    }
    rest = {name: value for name, value in category.items() if name != "metadata"}
    return rest | ({"metadata": metadata} if metadata else {})


def _rows(roster: Roster, restrictions: Restrictions) -> dict[str, list[Row]]:
    rows_by_name = dict(roster)

    def allows(allowed: Collection[str] | None, values: Iterable[str]) -> bool:
        return allowed is None or any(value in allowed for value in values)

    if restrictions.orgs is not None:
        parents = {org["sourcedId"]: org.get("parent") for org in roster["orgs"]}
        ancestors = set(restrictions.orgs)
        while unseen_parents := {parent for key in ancestors if (parent := parents.get(key))} - ancestors:
            ancestors |= unseen_parents
        rows_by_name["orgs"] = [org for org in roster["orgs"] if org["sourcedId"] in ancestors]
    rows_by_name["classes"] = [
        row
        for row in roster["classes"]
        if allows(restrictions.orgs, [row["school"]]) and allows(restrictions.classes, [row["sourcedId"]])
    ]
    rows_by_name["courses"] = [row for row in roster["courses"] if _course(row, roster, restrictions)]
    rows_by_name["users"] = [row for row in roster["users"] if _user(row, roster, restrictions)]
    visible_ids = {name: {row["sourcedId"] for row in rows} for name, rows in rows_by_name.items()}
    rows_by_name["demographics"] = [row for row in roster["demographics"] if row["sourcedId"] in visible_ids["users"]]
    rows_by_name["enrollments"] = [
        row
        for row in roster["enrollments"]
        if allows(restrictions.orgs, [row["school"]])
        and row["class"] in visible_ids["classes"]
        and row["user"] in visible_ids["users"]
    ]
    rows_by_name["lineItems"] = [row for row in roster["lineItems"] if row["class"] in visible_ids["classes"]]
    used = {row["category"] for row in rows_by_name["lineItems"]} if "lineItems" not in restrictions.denied else set()
    rows_by_name["categories"] = [
        row
        for row in roster["categories"]
        if not class_ids(row) or row["sourcedId"] in used or visible_ids["classes"].intersection(class_ids(row))
    ]
    items = {row["sourcedId"] for row in rows_by_name["lineItems"]}
    rows_by_name["results"] = [
        row for row in roster["results"] if row["lineItem"] in items and row["student"] in visible_ids["users"]
    ]
    return rows_by_name


def _course(course: Row, roster: Roster, restrictions: Restrictions) -> bool:
    classes = [row for row in roster["classes"] if row["course"] == course["sourcedId"]]
    in_orgs = (
        restrictions.orgs is None
        or course.get("org") in restrictions.orgs
        or any(row["school"] in restrictions.orgs for row in classes)
    )
    return in_orgs and (
        restrictions.classes is None or any(row["sourcedId"] in restrictions.classes for row in classes)
    )


def _user(user: Row, roster: Roster, restrictions: Restrictions) -> bool:
    if restrictions.orgs is not None and not set(user["orgs"]) & set(restrictions.orgs):
        return False
    if restrictions.grades is not None and user["role"] == "student":
        allowed = {grade.lower() for grade in restrictions.grades}
        if not allowed & {grade.lower() for grade in user.get("grades", [])}:
            return False
    return restrictions.classes is None or any(
        row["user"] == user["sourcedId"] and row["class"] in restrictions.classes for row in roster["enrollments"]
    )


def _with_visible_references(row: Row, references: Mapping[str, str], keys: Mapping[str, set[str]]) -> Row:
    row = copy.deepcopy(row)
    for member, target in references.items():
        if isinstance(row.get(member), list):
            row[member] = [key for key in row[member] if key in keys[target]]
        elif row.get(member) not in keys[target]:
            row.pop(member, None)
    return row


def redact(document: Row, restrictions: Restrictions) -> Row:
    """Return a served document without its redacted members."""
    rest = {name: value for name, value in document.items() if not restrictions.redacts(name)}
    for name in ("userIds", "metadata"):
        if name in rest and not (remaining := _without_redacted(rest[name], name, restrictions)):
            del rest[name]
        elif name in rest:
            rest[name] = remaining
    return rest


def _without_redacted(value: Any, path: str, restrictions: Restrictions) -> Any:
    if isinstance(value, list):
        return [visible for item in value if (visible := _without_redacted(item, path, restrictions)) or not item]
    if isinstance(value, dict):
        members = {name: value[name] for name in value if not restrictions.redacts(f"{path}.{name}")}
        pruned = {name: _without_redacted(member, f"{path}.{name}", restrictions) for name, member in members.items()}
        return {
            name: member for name, member in pruned.items() if _is_not_empty(member) or not _is_not_empty(members[name])
        }
    return value


def _is_not_empty(value: Any) -> bool:
    return value not in ({}, [])
