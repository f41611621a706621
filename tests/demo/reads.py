"""Members that each collection of the API has for a package, computed from the CSV rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from tests.demo.csv_packages import HEADERS, Package, ids, items

Members: TypeAlias = Iterable[tuple[str, ...]]


def by_type(name: str, column: str, token: str) -> Callable[[Package], Members]:
    """Return the members of a path that selects a type, such as `/schools`."""
    return lambda p: [(member,) for member in sorted(ids(p, name, **{column: token}))]


def enrolled(p: Package, role: str) -> list[tuple[str, str]]:
    """Return (class, user) of the enrollments with that role."""
    return [(e["classSourcedId"], e["userSourcedId"]) for e in p["enrollments"] if e["role"] == role]


def in_school(p: Package, pairs: Members) -> Members:
    """Return (school, class, member) for (class, member)."""
    school = {c["sourcedId"]: c["schoolSourcedId"] for c in p["classes"]}
    return [(school[pair[0]], *pair) for pair in pairs]


def users_of_schools(p: Package, role: str) -> Members:
    """Return (school, user) by user role and orgs."""
    schools = ids(p, "orgs", type="school")
    return [
        (o, u["sourcedId"]) for u in p["users"] if u["role"] == role for o in items(u["orgSourcedIds"]) if o in schools
    ]


def class_terms(p: Package) -> list[tuple[str, str, str]]:
    """Return (school, term, class) of every class and term."""
    terms = ids(p, "academicSessions", type="term")
    return [
        (c["schoolSourcedId"], t, c["sourcedId"])
        for c in p["classes"]
        for t in items(c["termSourcedIds"])
        if t in terms
    ]


def school_courses(p: Package) -> Members:
    """Return (school, course) of courses that the school owns or teaches."""
    schools = ids(p, "orgs", type="school")
    owned = [(c["orgSourcedId"], c["sourcedId"]) for c in p["courses"] if c["orgSourcedId"] in schools]
    return owned + [(c["schoolSourcedId"], c["courseSourcedId"]) for c in p["classes"]]


def grading_periods(p: Package) -> Members:
    """Return (term, grading period) of direct children."""
    terms = ids(p, "academicSessions", type="term")
    periods = [r for r in p["academicSessions"] if r["type"] == "gradingPeriod"]
    return [(r["parentSourcedId"], r["sourcedId"]) for r in periods if r["parentSourcedId"] in terms]


def class_results(p: Package) -> list[tuple[str, str, str, str]]:
    """Return (class, line item, student, result)."""
    owner = {r["sourcedId"]: r["classSourcedId"] for r in p["lineItems"]}
    return [
        (owner[li], li, r["studentSourcedId"], r["sourcedId"]) for r in p["results"] if (li := r["lineItemSourcedId"])
    ]


def pairs(name: str, parent: str, member: str = "sourcedId") -> Callable[[Package], Members]:
    """Return a function that returns two cells of every row of a file."""
    return lambda p: [(row[parent], row[member]) for row in p[name]]


def categories_of_classes(p: Package) -> Members:
    """Return (class, category) by the class's line items and by `metadata.classId`."""
    used = [(r["classSourcedId"], r["categorySourcedId"]) for r in p["lineItems"]]
    return used + [(c, r["sourcedId"]) for r in p["categories"] if (c := r["metadata.classId"])]


MEMBERS_BY_PATH: dict[str, Callable[[Package], Members]] = {
    f"/{name}": pairs(name, "sourcedId") for name in HEADERS if not name.endswith("Resources")
} | {
    "/schools": by_type("orgs", "type", "school"),
    "/terms": by_type("academicSessions", "type", "term"),
    "/gradingPeriods": by_type("academicSessions", "type", "gradingPeriod"),
    "/students": by_type("users", "role", "student"),
    "/teachers": by_type("users", "role", "teacher"),
    "/schools/{id}/courses": school_courses,
    "/schools/{school_id}/classes/{class_id}/enrollments": lambda p: [
        (e["schoolSourcedId"], e["classSourcedId"], e["sourcedId"]) for e in p["enrollments"]
    ],
    "/schools/{school_id}/classes/{class_id}/students": lambda p: in_school(p, enrolled(p, "student")),
    "/schools/{school_id}/classes/{class_id}/teachers": lambda p: in_school(p, enrolled(p, "teacher")),
    "/schools/{school_id}/enrollments": pairs("enrollments", "schoolSourcedId"),
    "/schools/{school_id}/students": lambda p: users_of_schools(p, "student"),
    "/schools/{school_id}/teachers": lambda p: users_of_schools(p, "teacher"),
    "/schools/{school_id}/terms": lambda p: [(school, term) for school, term, _ in class_terms(p)],
    "/schools/{school_id}/classes": pairs("classes", "schoolSourcedId"),
    "/terms/{term_id}/classes": lambda p: [(term, member) for _, term, member in class_terms(p)],
    "/terms/{term_id}/gradingPeriods": grading_periods,
    "/courses/{course_id}/classes": pairs("classes", "courseSourcedId"),
    "/students/{student_id}/classes": lambda p: [(u, c) for c, u in enrolled(p, "student")],
    "/teachers/{teacher_id}/classes": lambda p: [(u, c) for c, u in enrolled(p, "teacher")],
    "/users/{user_id}/classes": pairs("enrollments", "userSourcedId", "classSourcedId"),
    "/classes/{class_id}/students": lambda p: enrolled(p, "student"),
    "/classes/{class_id}/teachers": lambda p: enrolled(p, "teacher"),
    "/courses/{course_id}/resources": pairs("courseResources", "courseSourcedId", "resourceSourcedId"),
    "/classes/{class_id}/resources": pairs("classResources", "classSourcedId", "resourceSourcedId"),
    "/classes/{class_id}/lineItems": pairs("lineItems", "classSourcedId"),
    "/classes/{class_id}/results": lambda p: [(c, r) for c, _, _, r in class_results(p)],
    "/classes/{class_id}/lineItems/{li_id}/results": lambda p: [(c, li, r) for c, li, _, r in class_results(p)],
    "/classes/{class_id}/students/{student_id}/results": lambda p: [(c, u, r) for c, _, u, r in class_results(p)],
    "/classes/{class_id}/categories": categories_of_classes,
}
# Paths that have members below every parent of a kind.
NON_EMPTY_PARENTS = {
    "/schools": [path for path in MEMBERS_BY_PATH if path.startswith("/schools/")],
    "/terms": ["/terms/{term_id}/classes", "/terms/{term_id}/gradingPeriods"],
    "/courses": ["/courses/{course_id}/classes"],
    "/students": ["/students/{student_id}/classes"],
    "/teachers": ["/teachers/{teacher_id}/classes"],
    "/classes": ["/classes/{class_id}/students", "/classes/{class_id}/teachers"],
}
