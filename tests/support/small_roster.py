"""A small roster in which every route finds some records, hides others and has an empty case.

`COLLECTIONS`, `SINGLES`, `EMPTY` and `UNKNOWN_PARENTS` list paths and the expected ids.
"""

from __future__ import annotations

from typing import Any

from backends import Backend
from chalk_flask.oneroster.schemas import FILES

LAST_MODIFIED = "2024-03-01T09:30:00.000Z"
DELETION_TIME = "2024-04-01T00:00:00.000Z"

Row = dict[str, Any]


def row(key: str, **data: Any) -> Row:
    """Return an active record."""
    return {"sourcedId": key, "status": "active", "dateLastModified": LAST_MODIFIED, **data}


def org(key: str, kind: str, **data: Any) -> Row:
    """Return an org."""
    return row(key, name=f"{kind} {key}", type=kind, identifier=f"NCES-{key}", **data)


def session(key: str, kind: str, start: str, end: str, **data: Any) -> Row:
    """Return an academic session."""
    return row(key, title=f"{kind} {key}", type=kind, startDate=start, endDate=end, schoolYear="2024", **data)


def class_(key: str, course: str, school: str, terms: list[str], **data: Any) -> Row:
    """Return a class."""
    return row(key, title=f"Class {key}", classType="scheduled", course=course, school=school, terms=terms, **data)


def user(key: str, role: str, given: str, family: str, orgs: list[str], **data: Any) -> Row:
    """Return a user."""
    names = {"username": key, "givenName": given, "familyName": family, "email": f"{key}@north.example"}
    return row(key, role=role, orgs=orgs, **{"enabledUser": "true", **names, **data})


def enrollment(key: str, class_: str, school: str, user: str, role: str, **data: Any) -> Row:
    """Return an enrollment."""
    return row(
        key, **{"class": class_, "school": school, "user": user, "role": role, "beginDate": "2023-09-04"}, **data
    )


def line_item(key: str, class_: str, category: str, **data: Any) -> Row:
    """Return a line item."""
    days = {"assignDate": "2023-10-02T00:00:00.000Z", "dueDate": "2023-10-09T00:00:00.000Z"}
    marks = {"gradingPeriod": "g-1", "resultValueMin": 0, "resultValueMax": 100}
    return row(key, title=f"Item {key}", category=category, **{"class": class_, **days, **marks, **data})


def result(key: str, item: str, student: str, score: float, **data: Any) -> Row:
    """Return a result."""
    graded = {"scoreStatus": "fully graded", "score": score, "scoreDate": "2023-10-10"}
    return row(key, lineItem=item, student=student, **graded, **data)


DELETED = {"status": "tobedeleted", "dateLastModified": DELETION_TIME}

ROSTER: dict[str, list[Row]] = {
    "orgs": [
        org("d-1", "district", children=["s-1", "s-2", "s-3"]),
        org("s-1", "school", parent="d-1"),
        org("s-2", "school", parent="d-1", children=["p-1"]),
        org("s-3", "school", parent="d-1", metadata={"region": "North", "boards.lead": "Ada", "size": 3}),
        org("p-1", "department", parent="s-2"),
    ],
    "academicSessions": [
        session("y-1", "schoolYear", "2023-08-01", "2024-07-31", children=["m-1", "t-1", "t-2", "t-3"]),
        session("t-1", "term", "2023-08-01", "2023-12-31", parent="y-1", children=["g-1", "g-2"]),
        session("t-2", "term", "2024-01-01", "2024-03-31", parent="y-1"),
        session("t-3", "term", "2024-04-01", "2024-07-31", parent="y-1"),
        session("m-1", "semester", "2023-08-01", "2024-01-31", parent="y-1"),
        session("g-1", "gradingPeriod", "2023-08-01", "2023-09-30", parent="t-1", children=["g-3", "m-2"]),
        session("g-2", "gradingPeriod", "2023-10-01", "2023-12-31", parent="t-1"),
        session("g-3", "gradingPeriod", "2023-08-01", "2023-08-31", parent="g-1"),
        session("m-2", "semester", "2023-08-01", "2023-08-15", parent="g-1", children=["g-4"]),
        session("g-4", "gradingPeriod", "2023-08-01", "2023-08-07", parent="m-2"),
    ],
    "resources": [
        row("r-1", vendorResourceId="v-1", title="Atlas", roles=["student", "teacher"], importance="primary"),
        row("r-2", vendorResourceId="v-2", title="Reader", roles=["teacher"]),
        row("r-3", vendorResourceId="v-3"),
    ],
    "courses": [
        row("k-1", title="Chemistry", courseCode="CH", org="d-1", schoolYear="y-1", grades=["09", "10"],
             subjects=["Chemistry", "Physics"], resources=["r-1", "r-2"]),
        row("k-2", title="History", courseCode="HI", org="s-1", subjects=["History"]),
        row("k-3", title="Sport", courseCode="SP", org="s-2", **DELETED),
        row("k-4", title="Art", courseCode="AR", org="d-1"),
    ],
    "classes": [
        class_("c-1", "k-1", "s-1", ["t-1"], grades=["09"], periods=["1", "2"], subjects=["Chemistry", "Lab, advanced"],
               resources=["r-2"]),
        class_("c-2", "k-1", "s-1", ["t-1", "t-2"]),
        class_("c-3", "k-3", "s-2", ["y-1", "t-2"], classCode="PE"),
        class_("c-4", "k-4", "s-2", ["m-1"], location="Annex"),
    ],
    "users": [
        user("u-1", "student", "Ada", "O'Brien", ["s-1"], grades=["09"], agents=["u-6"],
              userIds=[{"type": "LDAP", "identifier": "ada@north"}, {"type": "SIS", "identifier": "77"}]),
        user("u-2", "student", "Bob", "Jones", ["s-1", "s-2"], grades=["10"], identifier="S-2"),
        user("u-3", "student", "Çelik", "Müller", ["s-2"], enabledUser="false"),
        user("u-4", "teacher", "Dan", "Jones AND Sons", ["s-1"], phone="1-555"),
        user("u-5", "teacher", "Eve", "100%", ["s-2"], middleName="Mary Ann"),
        user("u-6", "guardian", "Fay", "O'Brien", ["s-1"], agents=["u-1"]),
        user("u-7", "administrator", "Gus", "Zane", ["d-1"]),
        user("u-8", "student", "Hal", "Young", ["s-1"], **DELETED),
        user("u-9", "aide", "Ivy", "Xu", ["s-1"]),
    ],
    "demographics": [
        row("u-1", birthDate="2009-05-14", sex="female", asian="false", white="true", countryOfBirthCode="US"),
        row("u-2", birthDate="2008-01-02", sex="male"),
    ],
    "enrollments": [
        enrollment("e-1", "c-1", "s-1", "u-1", "student"),
        enrollment("e-2", "c-1", "s-1", "u-2", "student"),
        enrollment("e-3", "c-1", "s-1", "u-4", "teacher", primary="true"),
        enrollment("e-4", "c-1", "s-1", "u-8", "student", **DELETED),
        enrollment("e-5", "c-2", "s-1", "u-1", "student", endDate="2023-09-05"),
        enrollment("e-6", "c-2", "s-1", "u-1", "student"),
        enrollment("e-7", "c-3", "s-2", "u-3", "student"),
        enrollment("e-8", "c-3", "s-2", "u-5", "teacher", primary="false"),
        enrollment("e-9", "c-2", "s-1", "u-9", "teacher"),
        enrollment("e-10", "c-2", "s-1", "u-7", "administrator"),
    ],
    "categories": [
        row("cat-1", title="Homework", metadata={"classId": "c-2"}),
        row("cat-2", title="Tests", metadata={"classId": "c-1"}),
        row("cat-3", title="Global"),
        row("cat-4", title="Elsewhere", metadata={"classId": "c-3"}),
        row("cat-5", title="Gone", **DELETED),
        row("cat-6", title="Of a deleted item", metadata={"classId": "c-4"}),
    ],
    "lineItems": [
        line_item("l-1", "c-1", "cat-1", description="Chapter 1"),
        line_item("l-2", "c-2", "cat-3", resultValueMax=12.5),
        line_item("l-3", "c-1", "cat-6", **DELETED),
        line_item("l-4", "c-1", "cat-2"),
    ],
    "results": [
        result("x-1", "l-1", "u-1", 87.5, comment="Good"),
        result("x-2", "l-1", "u-2", 300),
        result("x-3", "l-2", "u-1", -5),
        result("x-4", "l-3", "u-1", 40, **DELETED),
        result("x-5", "l-1", "u-1", 41, **DELETED),
    ],
}  # fmt: skip


def fill(store: Backend, tenant: str = "default") -> None:
    """Store the roster."""
    with store.write(tenant) as transaction:
        for name, rows in ROSTER.items():
            transaction.put(name, [FILES[name].record(row) for row in rows])


COLLECTIONS = {
    "/academicSessions": "g-1 g-2 g-3 g-4 m-1 m-2 t-1 t-2 t-3 y-1",
    "/classes": "c-1 c-2 c-3 c-4",
    "/courses": "k-1 k-2 k-3 k-4",
    "/gradingPeriods": "g-1 g-2 g-3 g-4",
    "/demographics": "u-1 u-2",
    "/enrollments": "e-1 e-10 e-2 e-3 e-4 e-5 e-6 e-7 e-8 e-9",
    "/orgs": "d-1 p-1 s-1 s-2 s-3",
    "/schools": "s-1 s-2 s-3",
    "/students": "u-1 u-2 u-3 u-8",
    "/teachers": "u-4 u-5",
    "/terms": "m-1 m-2 t-1 t-2 t-3",
    "/users": "u-1 u-2 u-3 u-4 u-5 u-6 u-7 u-8 u-9",
    "/schools/s-1/courses": "k-1 k-2",
    "/schools/s-2/courses": "k-3 k-4",
    "/schools/s-1/classes/c-1/enrollments": "e-1 e-2 e-3 e-4",
    "/schools/s-1/classes/c-1/students": "u-1 u-2",
    "/schools/s-1/classes/c-2/teachers": "u-9",
    "/schools/s-2/enrollments": "e-7 e-8",
    "/schools/s-1/students": "u-1 u-2 u-8",
    "/schools/s-1/teachers": "u-4",
    "/schools/s-1/terms": "t-1 t-2",
    "/schools/s-2/terms": "m-1 t-2",
    "/terms/t-2/classes": "c-2 c-3",
    "/terms/m-1/classes": "c-4",
    "/terms/y-1/classes": "c-3",
    "/terms/t-1/gradingPeriods": "g-1 g-2 g-3 g-4",
    "/terms/m-1/gradingPeriods": "g-1 g-2 g-3 g-4",
    "/terms/m-2/gradingPeriods": "g-4",
    "/terms/y-1/gradingPeriods": "g-1 g-2 g-3 g-4",
    "/courses/k-1/classes": "c-1 c-2",
    "/students/u-1/classes": "c-1 c-2",
    "/teachers/u-4/classes": "c-1",
    "/schools/s-2/classes": "c-3 c-4",
    "/users/u-7/classes": "c-2",
    "/users/u-9/classes": "c-2",
    "/classes/c-1/students": "u-1 u-2",
    "/classes/c-2/students": "u-1",
    "/classes/c-3/teachers": "u-5",
    "/resources": "r-1 r-2 r-3",
    "/courses/k-1/resources": "r-1 r-2",
    "/classes/c-1/resources": "r-2",
    "/categories": "cat-1 cat-2 cat-3 cat-4 cat-6",
    "/lineItems": "l-1 l-2 l-4",
    "/results": "x-1 x-2 x-3",
    "/classes/c-1/results": "x-1 x-2",
    "/classes/c-1/lineItems": "l-1 l-4",
    "/classes/c-1/lineItems/l-1/results": "x-1 x-2",
    "/classes/c-1/students/u-1/results": "x-1",
    "/classes/c-1/categories": "cat-1 cat-2 cat-3",
}
"""Paths of collections and the expected ids. A path differs from its template in the ids only."""

SINGLES = {
    "/academicSessions/m-1": "m-1",
    "/classes/c-3": "c-3",
    "/courses/k-3": "k-3",
    "/gradingPeriods/g-3": "g-3",
    "/demographics/u-2": "u-2",
    "/enrollments/e-4": "e-4",
    "/orgs/p-1": "p-1",
    "/schools/s-3": "s-3",
    "/students/u-8": "u-8",
    "/teachers/u-5": "u-5",
    "/terms/t-2": "t-2",
    "/terms/m-1": "m-1",
    "/terms/y-1": "y-1",
    "/users/u-7": "u-7",
    "/resources/r-3": "r-3",
    "/categories/cat-4": "cat-4",
    "/lineItems/l-4": "l-4",
    "/results/x-3": "x-3",
}
"""Paths of single objects and the expected id."""

EMPTY = [
    "/schools/s-3/courses",
    "/schools/s-2/classes/c-4/enrollments",
    "/schools/s-2/classes/c-4/students",
    "/schools/s-2/classes/c-4/teachers",
    "/schools/s-3/enrollments",
    "/schools/s-3/students",
    "/schools/s-3/teachers",
    "/schools/s-3/terms",
    "/terms/t-3/classes",
    "/terms/t-3/gradingPeriods",
    "/courses/k-2/classes",
    "/students/u-8/classes",
    "/users/u-6/classes",
    "/schools/s-3/classes",
    "/classes/c-4/students",
    "/classes/c-4/teachers",
    "/courses/k-2/resources",
    "/classes/c-2/resources",
    "/classes/c-4/results",
    "/classes/c-4/lineItems",
    "/classes/c-1/lineItems/l-4/results",
    "/classes/c-4/students/u-1/results",
]
"""Paths of empty collections."""

UNKNOWN_PARENTS = [
    "/schools/nope/courses",
    "/schools/nope/classes/c-1/enrollments",
    "/schools/s-1/classes/nope/enrollments",
    "/schools/s-2/classes/c-1/enrollments",
    "/schools/s-2/classes/c-1/students",
    "/schools/s-2/classes/c-1/teachers",
    "/schools/d-1/enrollments",
    "/schools/p-1/students",
    "/schools/S-1/students",
    "/schools/nope/teachers",
    "/schools/d-1/terms",
    "/schools/d-1/classes",
    "/terms/g-1/classes",
    "/terms/g-1/gradingPeriods",
    "/terms/nope/gradingPeriods",
    "/courses/nope/classes",
    "/students/u-4/classes",
    "/teachers/u-1/classes",
    "/users/nope/classes",
    "/classes/nope/students",
    "/classes/nope/teachers",
    "/courses/nope/resources",
    "/classes/nope/resources",
    "/classes/nope/results",
    "/classes/nope/lineItems",
    "/classes/nope/lineItems/l-1/results",
    "/classes/c-1/lineItems/nope/results",
    "/classes/c-2/lineItems/l-1/results",
    "/classes/nope/students/u-1/results",
    "/classes/c-1/students/u-4/results",
    "/classes/c-1/students/nope/results",
    "/classes/nope/categories",
]
"""Paths with a parent that is unknown, of another type, or not part of the object before it."""
