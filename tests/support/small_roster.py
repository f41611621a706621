"""A small roster in which every endpoint has something to show, something to hide, and somewhere to end."""

from __future__ import annotations

from typing import Any

from backends import Backend
from chalk_flask.oneroster.schemas import FILES

MARCH = "2024-03-01T09:30:00.000Z"
APRIL = "2024-04-01T00:00:00.000Z"

Row = dict[str, Any]


def _row(key: str, **data: Any) -> Row:
    return {"sourcedId": key, "status": "active", "dateLastModified": MARCH, **data}


def _org(key: str, kind: str, **data: Any) -> Row:
    return _row(key, name=f"{kind} {key}", type=kind, identifier=f"NCES-{key}", **data)


def _session(key: str, kind: str, start: str, end: str, **data: Any) -> Row:
    return _row(key, title=f"{kind} {key}", type=kind, startDate=start, endDate=end, schoolYear="2024", **data)


def _class(key: str, course: str, school: str, terms: list[str], **data: Any) -> Row:
    return _row(key, title=f"Class {key}", classType="scheduled", course=course, school=school, terms=terms, **data)


def _user(key: str, role: str, given: str, family: str, orgs: list[str], **data: Any) -> Row:
    names = {"username": key, "givenName": given, "familyName": family, "email": f"{key}@north.example"}
    return _row(key, role=role, orgs=orgs, **{"enabledUser": "true", **names, **data})


def _enrollment(key: str, class_: str, school: str, user: str, role: str, **data: Any) -> Row:
    return _row(
        key, **{"class": class_, "school": school, "user": user, "role": role, "beginDate": "2023-09-04"}, **data
    )


def _line_item(key: str, class_: str, category: str, **data: Any) -> Row:
    days = {"assignDate": "2023-10-02T00:00:00.000Z", "dueDate": "2023-10-09T00:00:00.000Z"}
    marks = {"gradingPeriod": "g-1", "resultValueMin": 0, "resultValueMax": 100}
    return _row(key, title=f"Item {key}", category=category, **{"class": class_, **days, **marks, **data})


def _result(key: str, item: str, student: str, score: float, **data: Any) -> Row:
    graded = {"scoreStatus": "fully graded", "score": score, "scoreDate": "2023-10-10"}
    return _row(key, lineItem=item, student=student, **graded, **data)


DELETED = {"status": "tobedeleted", "dateLastModified": APRIL}

ROSTER: dict[str, list[Row]] = {
    "orgs": [
        _org("d-1", "district", children=["s-1", "s-2", "s-3"]),
        _org("s-1", "school", parent="d-1"),
        _org("s-2", "school", parent="d-1", children=["p-1"]),
        _org("s-3", "school", parent="d-1", metadata={"region": "North", "boards.lead": "Ada", "size": 3}),
        _org("p-1", "department", parent="s-2"),
    ],
    "academicSessions": [
        _session("y-1", "schoolYear", "2023-08-01", "2024-07-31", children=["m-1", "t-1", "t-2", "t-3"]),
        _session("t-1", "term", "2023-08-01", "2023-12-31", parent="y-1", children=["g-1", "g-2"]),
        _session("t-2", "term", "2024-01-01", "2024-03-31", parent="y-1"),
        _session("t-3", "term", "2024-04-01", "2024-07-31", parent="y-1"),
        _session("m-1", "semester", "2023-08-01", "2024-01-31", parent="y-1"),
        _session("g-1", "gradingPeriod", "2023-08-01", "2023-09-30", parent="t-1", children=["g-3", "m-2"]),
        _session("g-2", "gradingPeriod", "2023-10-01", "2023-12-31", parent="t-1"),
        _session("g-3", "gradingPeriod", "2023-08-01", "2023-08-31", parent="g-1"),
        _session("m-2", "semester", "2023-08-01", "2023-08-15", parent="g-1", children=["g-4"]),
        _session("g-4", "gradingPeriod", "2023-08-01", "2023-08-07", parent="m-2"),
    ],
    "resources": [
        _row("r-1", vendorResourceId="v-1", title="Atlas", roles=["student", "teacher"], importance="primary"),
        _row("r-2", vendorResourceId="v-2", title="Reader", roles=["teacher"]),
        _row("r-3", vendorResourceId="v-3"),
    ],
    "courses": [
        _row("k-1", title="Chemistry", courseCode="CH", org="d-1", schoolYear="y-1", grades=["09", "10"],
             subjects=["Chemistry", "Physics"], resources=["r-1", "r-2"]),
        _row("k-2", title="History", courseCode="HI", org="s-1", subjects=["History"]),
        _row("k-3", title="Sport", courseCode="SP", org="s-2", **DELETED),
        _row("k-4", title="Art", courseCode="AR", org="d-1"),
    ],
    "classes": [
        _class("c-1", "k-1", "s-1", ["t-1"], grades=["09"], periods=["1", "2"], subjects=["Chemistry", "Lab, advanced"],
               resources=["r-2"]),
        _class("c-2", "k-1", "s-1", ["t-1", "t-2"]),
        _class("c-3", "k-3", "s-2", ["y-1", "t-2"], classCode="PE"),
        _class("c-4", "k-4", "s-2", ["m-1"], location="Annex"),
    ],
    "users": [
        _user("u-1", "student", "Ada", "O'Brien", ["s-1"], grades=["09"], agents=["u-6"],
              userIds=[{"type": "LDAP", "identifier": "ada@north"}, {"type": "SIS", "identifier": "77"}]),
        _user("u-2", "student", "Bob", "Jones", ["s-1", "s-2"], grades=["10"], identifier="S-2"),
        _user("u-3", "student", "Çelik", "Müller", ["s-2"], enabledUser="false"),
        _user("u-4", "teacher", "Dan", "Jones AND Sons", ["s-1"], phone="1-555"),
        _user("u-5", "teacher", "Eve", "100%", ["s-2"], middleName="Mary Ann"),
        _user("u-6", "guardian", "Fay", "O'Brien", ["s-1"], agents=["u-1"]),
        _user("u-7", "administrator", "Gus", "Zane", ["d-1"]),
        _user("u-8", "student", "Hal", "Young", ["s-1"], **DELETED),
        _user("u-9", "aide", "Ivy", "Xu", ["s-1"]),
    ],
    "demographics": [
        _row("u-1", birthDate="2009-05-14", sex="female", asian="false", white="true", countryOfBirthCode="US"),
        _row("u-2", birthDate="2008-01-02", sex="male"),
    ],
    "enrollments": [
        _enrollment("e-1", "c-1", "s-1", "u-1", "student"),
        _enrollment("e-2", "c-1", "s-1", "u-2", "student"),
        _enrollment("e-3", "c-1", "s-1", "u-4", "teacher", primary="true"),
        _enrollment("e-4", "c-1", "s-1", "u-8", "student", **DELETED),
        _enrollment("e-5", "c-2", "s-1", "u-1", "student", endDate="2023-09-05"),
        _enrollment("e-6", "c-2", "s-1", "u-1", "student"),
        _enrollment("e-7", "c-3", "s-2", "u-3", "student"),
        _enrollment("e-8", "c-3", "s-2", "u-5", "teacher", primary="false"),
        _enrollment("e-9", "c-2", "s-1", "u-9", "teacher"),
        _enrollment("e-10", "c-2", "s-1", "u-7", "administrator"),
    ],
    "categories": [
        _row("cat-1", title="Homework", metadata={"classId": "c-2"}),
        _row("cat-2", title="Tests", metadata={"classId": "c-1"}),
        _row("cat-3", title="Global"),
        _row("cat-4", title="Elsewhere", metadata={"classId": "c-3"}),
        _row("cat-5", title="Gone", **DELETED),
        _row("cat-6", title="Of a deleted item", metadata={"classId": "c-4"}),
    ],
    "lineItems": [
        _line_item("l-1", "c-1", "cat-1", description="Chapter 1"),
        _line_item("l-2", "c-2", "cat-3", resultValueMax=12.5),
        _line_item("l-3", "c-1", "cat-6", **DELETED),
        _line_item("l-4", "c-1", "cat-2"),
    ],
    "results": [
        _result("x-1", "l-1", "u-1", 87.5, comment="Good"),
        _result("x-2", "l-1", "u-2", 300),
        _result("x-3", "l-2", "u-1", -5),
        _result("x-4", "l-3", "u-1", 40, **DELETED),
        _result("x-5", "l-1", "u-1", 41, **DELETED),
    ],
}  # fmt: skip


def fill(store: Backend, tenant: str = "default") -> None:
    """Put the roster into a store."""
    with store.write(tenant) as transaction:
        for name, rows in ROSTER.items():
            transaction.put(name, [FILES[name].record(row) for row in rows])
