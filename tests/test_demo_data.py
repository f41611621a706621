"""The packages that ship with the project, read with the csv module alone: what the sample district promises."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import TypeAlias

import pytest

Row: TypeAlias = dict[str, str]
Package: TypeAlias = dict[str, list[Row]]
Answers: TypeAlias = Iterable[tuple[str, ...]]

HERE = Path(__file__).parent
DEMO = HERE.parent / "chalk_flask" / "demo"
PACKAGES = {"demo": DEMO, "minimal": HERE / "data/csv/minimal", "quirks": HERE / "data/csv/quirks"}
EXPECTED = HERE / "data/csv/quirks.expected.json"
OPERATIONS = HERE / "data/operations.json"

# Spec 8.4, to the letter: the sample is held to the standard, not to our own declarations.
HEADERS = {
    "academicSessions": "sourcedId,status,dateLastModified,title,type,startDate,endDate,parentSourcedId,schoolYear",
    "categories": "sourcedId,status,dateLastModified,title",
    "classes": "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,"
    "schoolSourcedId,termSourcedIds,subjects,subjectCodes,periods",
    "classResources": "sourcedId,status,dateLastModified,title,classSourcedId,resourceSourcedId",
    "courses": "sourcedId,status,dateLastModified,schoolYearSourcedId,title,courseCode,grades,orgSourcedId,"
    "subjects,subjectCodes",
    "courseResources": "sourcedId,status,dateLastModified,title,courseSourcedId,resourceSourcedId",
    "demographics": "sourcedId,status,dateLastModified,birthDate,sex,americanIndianOrAlaskaNative,asian,"
    "blackOrAfricanAmerican,nativeHawaiianOrOtherPacificIslander,white,demographicRaceTwoOrMoreRaces,"
    "hispanicOrLatinoEthnicity,countryOfBirthCode,stateOfBirthAbbreviation,cityOfBirth,publicSchoolResidenceStatus",
    "enrollments": "sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,userSourcedId,role,primary,"
    "beginDate,endDate",
    "lineItems": "sourcedId,status,dateLastModified,title,description,assignDate,dueDate,classSourcedId,"
    "categorySourcedId,gradingPeriodSourcedId,resultValueMin,resultValueMax",
    "orgs": "sourcedId,status,dateLastModified,name,type,identifier,parentSourcedId",
    "resources": "sourcedId,status,dateLastModified,vendorResourceId,title,roles,importance,vendorId,applicationId",
    "results": "sourcedId,status,dateLastModified,lineItemSourcedId,studentSourcedId,scoreStatus,score,scoreDate,"
    "comment",
    "users": "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,userIds,givenName,"
    "familyName,middleName,identifier,email,sms,phone,agentSourcedIds,grades,password",
}
# The required cells of spec 8.4.
REQUIRED = {
    "academicSessions": "sourcedId title type startDate endDate schoolYear",
    "categories": "sourcedId title",
    "classes": "sourcedId title courseSourcedId classType schoolSourcedId termSourcedIds",
    "classResources": "sourcedId classSourcedId resourceSourcedId",
    "courses": "sourcedId title orgSourcedId",
    "courseResources": "sourcedId courseSourcedId resourceSourcedId",
    "demographics": "sourcedId",
    "enrollments": "sourcedId classSourcedId schoolSourcedId userSourcedId role",
    "lineItems": "sourcedId title assignDate dueDate classSourcedId categorySourcedId gradingPeriodSourcedId "
    "resultValueMin resultValueMax",
    "orgs": "sourcedId name type",
    "resources": "sourcedId vendorResourceId",
    "results": "sourcedId lineItemSourcedId studentSourcedId scoreStatus score scoreDate",
    "users": "sourcedId enabledUser orgSourcedIds role username givenName familyName",
}
TARGETS = {
    "schoolYearSourcedId": "academicSessions",
    "orgSourcedId": "orgs",
    "orgSourcedIds": "orgs",
    "schoolSourcedId": "orgs",
    "courseSourcedId": "courses",
    "classSourcedId": "classes",
    "metadata.classId": "classes",
    "termSourcedIds": "academicSessions",
    "gradingPeriodSourcedId": "academicSessions",
    "userSourcedId": "users",
    "studentSourcedId": "users",
    "agentSourcedIds": "users",
    "resourceSourcedId": "resources",
    "categorySourcedId": "categories",
    "lineItemSourcedId": "lineItems",
}
ROLES = ["administrator", "aide", "guardian", "parent", "proctor", "relative", "student", "teacher"]
GRADES = ["IT", "PR", "PK", "TK", "KG", *(f"{grade:02d}" for grade in range(1, 14)), "PS", "UG", "Other"]
SCORE_STATUSES = ["exempt", "fully graded", "not submitted", "partially graded", "submitted"]
RACES = [
    "americanIndianOrAlaskaNative",
    "asian",
    "blackOrAfricanAmerican",
    "nativeHawaiianOrOtherPacificIslander",
    "white",
]
BOOLEANS = {("users", "enabledUser"), ("enrollments", "primary")} | {
    ("demographics", flag) for flag in (*RACES, "demographicRaceTwoOrMoreRaces", "hispanicOrLatinoEthnicity")
}
VOCABULARIES = {
    ("academicSessions", "type"): ["gradingPeriod", "semester", "schoolYear", "term"],
    ("orgs", "type"): ["department", "school", "district", "local", "state", "national"],
    ("classes", "classType"): ["homeroom", "scheduled"],
    ("classes", "grades"): GRADES,
    ("courses", "grades"): GRADES,
    ("users", "grades"): GRADES,
    ("users", "role"): ROLES,
    ("resources", "roles"): ROLES,
    ("resources", "importance"): ["primary", "secondary"],
    ("enrollments", "role"): ["administrator", "proctor", "student", "teacher"],
    ("results", "scoreStatus"): SCORE_STATUSES,
    ("demographics", "sex"): ["male", "female"],
    ("demographics", "publicSchoolResidenceStatus"): ["01652", "01653", "01654", "01655", "01656"],
} | {place: ["true", "false"] for place in BOOLEANS}
DATES = ["startDate", "endDate", "beginDate", "birthDate", "assignDate", "dueDate", "scoreDate"]
SAFE_ID = re.compile(r"[0-9A-Za-z._-]{1,40}")


def read(path: Path) -> list[list[str]]:
    """Header and rows of one file, a byte order mark stripped."""
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))


def load(folder: Path) -> Package:
    """The rows of every data file of a package; the column names of OneRoster 1.0 are put right."""
    package: Package = {name: [] for name in HEADERS}
    for name in HEADERS:
        if (folder / f"{name}.csv").exists():
            head, *rows = read(folder / f"{name}.csv")
            if name == "demographics":
                head = [{"userSourcedId": "sourcedId", "birthdate": "birthDate"}.get(c, c) for c in head]
            package[name] = [dict(zip(head, row, strict=True)) for row in rows]
    return package


def items(cell: str) -> list[str]:
    """The values of a list cell."""
    return [item.strip() for item in cell.split(",") if item.strip()]


def ids(package: Package, name: str, **cells: str) -> set[str]:
    """The sourcedIds of the rows that have these cells."""
    return {r["sourcedId"] for r in package[name] if all(r[c] == v for c, v in cells.items())}


def cells(package: Package) -> Iterator[tuple[str, str, str]]:
    """(file, column, value) of every cell that is not empty."""
    for name, rows in package.items():
        yield from ((name, column, value) for row in rows for column, value in row.items() if value)


@pytest.fixture(scope="module")
def demo() -> Package:
    return load(DEMO)


@pytest.fixture(scope="module", params=PACKAGES)
def package(request: pytest.FixtureRequest) -> Package:
    return load(PACKAGES[request.param])


# What holds for every package.


@pytest.mark.parametrize("folder", PACKAGES.values(), ids=PACKAGES)
def test_the_manifest_declares_every_file_and_nothing_else(folder: Path) -> None:
    head, *rows = read(folder / "manifest.csv")
    declared = {prop[5:]: mode for prop, mode in rows if prop.startswith("file.")}
    present = {path.stem for path in folder.glob("*.csv")} - {"manifest"}
    assert head == ["propertyName", "value"]
    assert declared == {name: "bulk" if name in present else "absent" for name in HEADERS}
    assert dict(rows)["oneroster.version"] == "1.1"
    assert dict(rows)["manifest.version"] in ("1.0", "1")


def test_ids_are_unique_in_their_file_and_of_the_safe_alphabet(package: Package) -> None:
    for name, rows in package.items():
        found = [row["sourcedId"] for row in rows]
        assert len(found) == len(set(found)), name
        assert all(SAFE_ID.fullmatch(one) for one in found), name


def test_every_required_cell_is_filled(package: Package) -> None:
    empty = [
        (n, r["sourcedId"], c) for n, rows in package.items() for r in rows for c in REQUIRED[n].split() if not r[c]
    ]
    assert empty == []


def test_every_reference_resolves(package: Package) -> None:
    known = {name: ids(package, name) for name in HEADERS}
    dangling = [
        (name, column, value)
        for name, column, cell in cells(package)
        for value in items(cell)
        if (target := name if column == "parentSourcedId" else TARGETS.get(column)) and value not in known[target]
    ]
    assert dangling == []
    assert known["demographics"] <= known["users"]


def test_every_vocabulary_token_is_of_the_standard(package: Package) -> None:
    unknown = [
        (name, column, token)
        for name, column, cell in cells(package)
        if (vocabulary := VOCABULARIES.get((name, column)))
        for token in items(cell.lower() if (name, column) in BOOLEANS else cell)
        if token not in vocabulary
    ]
    assert unknown == []


def test_dates_years_and_numbers_are_well_formed(package: Package) -> None:
    for _, column, value in cells(package):
        if column in DATES:
            assert date.fromisoformat(value).isoformat() == value
        if column == "schoolYear":
            assert re.fullmatch(r"\d{4}", value)
        if column in ("score", "resultValueMin", "resultValueMax"):
            assert re.fullmatch(r"-?\d+(\.\d+)?", value)


def test_references_point_at_the_right_kind_of_session_org_and_user(package: Package) -> None:
    sessions = {row["sourcedId"]: row["type"] for row in package["academicSessions"]}
    schools = ids(package, "orgs", type="school")
    assert {sessions[r["gradingPeriodSourcedId"]] for r in package["lineItems"]} <= {"gradingPeriod"}
    assert {sessions[t] for r in package["classes"] for t in items(r["termSourcedIds"])} <= {"term", "semester"}
    assert {sessions[y] for r in package["courses"] if (y := r["schoolYearSourcedId"])} <= {"schoolYear"}
    assert {r["schoolSourcedId"] for name in ("classes", "enrollments") for r in package[name]} <= schools
    assert {r["studentSourcedId"] for r in package["results"]} <= ids(package, "users", role="student")


def test_subjects_and_subject_codes_are_parallel(package: Package) -> None:
    for row in package["courses"] + package["classes"]:
        assert len(items(row["subjects"])) == len(items(row["subjectCodes"])), row["sourcedId"]


# What the two packages for tests are for.


def test_minimal_has_the_seven_usual_files() -> None:
    usual = {"academicSessions", "classes", "courses", "enrollments", "manifest", "orgs", "users"}
    assert {path.stem for path in PACKAGES["minimal"].iterdir()} == usual


def test_quirks_has_a_byte_order_mark_line_feeds_and_columns_in_another_order_everywhere() -> None:
    for name in HEADERS:
        path = PACKAGES["quirks"] / f"{name}.csv"
        first_line = path.read_bytes().split(b"\n", 1)[0]
        standard = HEADERS[name].split(",")
        assert first_line.startswith(b"\xef\xbb\xbf")
        assert not first_line.endswith(b"\r")
        assert read(path)[0][: len(standard)] != standard


def test_quirks_has_the_habits_of_older_systems() -> None:
    demographics = read(PACKAGES["quirks"] / "demographics.csv")[0]
    places = list(cells(load(PACKAGES["quirks"])))
    assert {"userSourcedId", "birthdate"} <= set(demographics)
    assert {value for _, column, value in places if column == "status"} == {"active", "inactive", "tobedeleted"}
    assert {len(value) for _, column, value in places if column == "dateLastModified"} == {10, 24}
    assert ("orgs", "type", "local") in places
    assert ("users", "enabledUser", "TRUE") in places


def test_quirks_expects_a_record_for_every_row() -> None:
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    quirks = load(PACKAGES["quirks"])
    assert set(expected) == set(HEADERS) - {"classResources", "courseResources"}
    for name, records in expected.items():
        status = {r["sourcedId"]: "active" if r["status"] in ("", "active") else "tobedeleted" for r in quirks[name]}
        assert [r["sourcedId"] for r in records] == sorted(status)
        assert {r["sourcedId"]: r["status"] for r in records} == status


# What the sample district promises.


@pytest.mark.parametrize("name", HEADERS)
def test_sample_files_have_the_headers_and_the_dialect_of_the_standard(name: str) -> None:
    raw = (DEMO / f"{name}.csv").read_bytes()
    again = io.StringIO()
    csv.writer(again, lineterminator="\r\n").writerows(read(DEMO / f"{name}.csv"))
    head, standard = read(DEMO / f"{name}.csv")[0], HEADERS[name].split(",")
    assert raw == again.getvalue().encode(), "CRLF, no byte order mark, quotes only where they are needed"
    assert head[: len(standard)] == standard
    assert all(column.startswith("metadata.") for column in head[len(standard) :])


def test_the_sample_leaves_status_date_and_password_blank(demo: Package) -> None:
    filled = {column for _, column, _ in cells(demo)}
    assert filled & {"status", "dateLastModified", "password"} == set()


def by_type(name: str, column: str, token: str) -> Callable[[Package], Answers]:
    """The answers of a type view, such as `/schools`."""
    return lambda p: [(one,) for one in sorted(ids(p, name, **{column: token}))]


def enrolled(p: Package, role: str) -> list[tuple[str, str]]:
    """(class, user) of the enrollments of that role."""
    return [(e["classSourcedId"], e["userSourcedId"]) for e in p["enrollments"] if e["role"] == role]


def in_school(p: Package, pairs: Answers) -> Answers:
    """(school, class, member) from (class, member)."""
    school = {c["sourcedId"]: c["schoolSourcedId"] for c in p["classes"]}
    return [(school[pair[0]], *pair) for pair in pairs]


def users_of_schools(p: Package, role: str) -> Answers:
    """(school, user) by user role and orgs."""
    schools = ids(p, "orgs", type="school")
    return [
        (o, u["sourcedId"]) for u in p["users"] if u["role"] == role for o in items(u["orgSourcedIds"]) if o in schools
    ]


def class_terms(p: Package) -> list[tuple[str, str, str]]:
    """(school, term, class) of every class and term."""
    terms = ids(p, "academicSessions", type="term")
    return [
        (c["schoolSourcedId"], t, c["sourcedId"])
        for c in p["classes"]
        for t in items(c["termSourcedIds"])
        if t in terms
    ]


def school_courses(p: Package) -> Answers:
    """(school, course): owned by the school, or taught there."""
    schools = ids(p, "orgs", type="school")
    owned = [(c["orgSourcedId"], c["sourcedId"]) for c in p["courses"] if c["orgSourcedId"] in schools]
    return owned + [(c["schoolSourcedId"], c["courseSourcedId"]) for c in p["classes"]]


def grading_periods(p: Package) -> Answers:
    """(term, grading period) of direct children."""
    terms = ids(p, "academicSessions", type="term")
    periods = [r for r in p["academicSessions"] if r["type"] == "gradingPeriod"]
    return [(r["parentSourcedId"], r["sourcedId"]) for r in periods if r["parentSourcedId"] in terms]


def class_results(p: Package) -> list[tuple[str, str, str, str]]:
    """(class, line item, student, result)."""
    owner = {r["sourcedId"]: r["classSourcedId"] for r in p["lineItems"]}
    return [
        (owner[li], li, r["studentSourcedId"], r["sourcedId"]) for r in p["results"] if (li := r["lineItemSourcedId"])
    ]


def pairs(name: str, parent: str, member: str = "sourcedId") -> Callable[[Package], Answers]:
    """(cell, other cell) of every row of a file."""
    return lambda p: [(row[parent], row[member]) for row in p[name]]


def categories_of_classes(p: Package) -> Answers:
    """(class, category) by the class's line items, and by `metadata.classId`."""
    used = [(r["classSourcedId"], r["categorySourcedId"]) for r in p["lineItems"]]
    return used + [(c, r["sourcedId"]) for r in p["categories"] if (c := r["metadata.classId"])]


ANSWERS: dict[str, Callable[[Package], Answers]] = {
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
    "/terms/{term_id}/classes": lambda p: [(term, one) for _, term, one in class_terms(p)],
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
# Beyond one answer somewhere: every parent of the kind has one.
EVERYWHERE = {
    "/schools": [path for path in ANSWERS if path.startswith("/schools/")],
    "/terms": ["/terms/{term_id}/classes", "/terms/{term_id}/gradingPeriods"],
    "/courses": ["/courses/{course_id}/classes"],
    "/students": ["/students/{student_id}/classes"],
    "/teachers": ["/teachers/{teacher_id}/classes"],
    "/classes": ["/classes/{class_id}/students", "/classes/{class_id}/teachers"],
}


def get_paths() -> list[str]:
    """The collections among the GET operations, and the extension of the gradebook."""
    operations = json.loads(OPERATIONS.read_text(encoding="utf-8"))["operations"]
    gets = [o["path"] for o in operations if o["method"] == "GET"]
    assert len(gets) == 55
    # A single read, /orgs/{id}, has an answer when its collection has.
    return sorted({re.sub(r"^(/\w+)/\{id\}$", r"\1", path) for path in gets} | {"/classes/{class_id}/categories"})


@pytest.mark.parametrize("path", get_paths())
def test_every_read_has_an_answer_in_the_sample(path: str, demo: Package) -> None:
    assert list(ANSWERS[path](demo)), path


@pytest.mark.parametrize(("parents", "path"), [(kind, path) for kind, paths in EVERYWHERE.items() for path in paths])
def test_every_parent_of_these_kinds_has_members_in_the_sample(parents: str, path: str, demo: Package) -> None:
    expected = {row[0] for row in ANSWERS[parents](demo)}
    assert {row[0] for row in ANSWERS[path](demo)} >= expected
    assert len(expected) > 1


def test_the_sample_has_a_district_two_schools_and_the_calendar_below_one_year(demo: Package) -> None:
    parents = {r["type"]: r["parentSourcedId"] for r in demo["orgs"]}
    levels = {r["sourcedId"]: (r["type"], r["parentSourcedId"]) for r in demo["academicSessions"]}
    steps = {(kind, levels[parent][0] if parent else "") for kind, parent in levels.values()}
    assert Counter(r["type"] for r in demo["orgs"]) >= Counter(district=1, school=2, department=1)
    assert parents["district"] == ""
    assert parents["school"] in ids(demo, "orgs", type="district")
    expected = {("schoolYear", ""), ("semester", "schoolYear"), ("term", "semester"), ("gradingPeriod", "term")}
    assert steps == expected


def test_sessions_lie_within_their_parents_and_what_is_dated_within_its_session(demo: Package) -> None:
    span = {r["sourcedId"]: (r["startDate"], r["endDate"]) for r in demo["academicSessions"]}
    for row in demo["academicSessions"]:
        start, end = span[row["parentSourcedId"] or row["sourcedId"]]
        assert start <= row["startDate"] < row["endDate"] <= end
    for row in demo["lineItems"]:
        start, end = span[row["gradingPeriodSourcedId"]]
        assert start <= row["assignDate"] <= row["dueDate"] < end
    terms = {c["sourcedId"]: items(c["termSourcedIds"]) for c in demo["classes"]}
    for row in demo["enrollments"]:
        spans = [span[term] for term in terms[row["classSourcedId"]]]
        assert min(spans)[0] <= row["beginDate"] < row["endDate"] <= max(spans)[1]


def test_people_are_of_every_role_and_students_have_grades_and_demographics(demo: Package) -> None:
    students = [row for row in demo["users"] if row["role"] == "student"]
    assert {row["role"] for row in demo["users"]} == set(ROLES)
    assert 60 <= len(demo["users"]) <= 90
    assert all(row["grades"] for row in students)
    assert ids(demo, "demographics") == {row["sourcedId"] for row in students}
    assert {row["enabledUser"] for row in demo["users"]} == {"true", "false"}


def test_every_teacher_is_found_by_an_e_mail_that_nobody_shares(demo: Package) -> None:
    mails = Counter(row["email"].lower() for row in demo["users"] if row["email"])
    names = Counter(row["username"].lower() for row in demo["users"])
    assert all(row["email"] for row in demo["users"] if row["role"] == "teacher")
    assert max(mails.values()) == max(names.values()) == 1
    assert not any("@" in name for name in names)


def test_mail_hosts_and_telephone_numbers_are_reserved_ones(demo: Package) -> None:
    for row in demo["users"]:
        assert re.fullmatch(r"([a-z.]+@([a-z]+\.)*example(\.org)?)?", row["email"])
        assert all(re.fullmatch(r"(\+1 202 555 01\d\d)?", row[column]) for column in ("sms", "phone"))


def test_agents_go_both_ways_between_students_and_their_family(demo: Package) -> None:
    role = {row["sourcedId"]: row["role"] for row in demo["users"]}
    links = {(row["sourcedId"], agent) for row in demo["users"] for agent in items(row["agentSourcedIds"])}
    assert links == {(other, one) for one, other in links}
    assert all((role[one] == "student") != (role[other] == "student") for one, other in links)
    assert {role[one] for one, _ in links} == {"student", "guardian", "parent", "relative"}


def test_names_come_from_several_scripts(demo: Package) -> None:
    names = "".join(row["givenName"] + row["familyName"] for row in demo["users"])
    scripts = {unicodedata.name(letter).split()[0] for letter in names if letter.isalpha()}
    assert scripts >= {"ARABIC", "CJK", "CYRILLIC", "DEVANAGARI", "GREEK", "HANGUL", "LATIN"}
    assert {"O'Brien", "Nguyễn", "Lefèvre"} <= {row["familyName"] for row in demo["users"]}


def test_user_ids_are_in_braces_with_a_type(demo: Package) -> None:
    found = [item for row in demo["users"] for item in items(row["userIds"])]
    assert all(re.fullmatch(r"\{[A-Za-z]+:[^{}]+\}", item) for item in found)
    assert {item[1:].split(":")[0] for item in found} == {"Fed", "LDAP", "SIS"}


def test_some_cells_hold_commas_quotes_and_line_breaks(demo: Package) -> None:
    titles = [value for _, column, value in cells(demo) if column in ("title", "name")]
    assert any("," in title for title in titles)
    assert any('"' in title for title in titles)
    assert any("\n" in row["description"] for row in demo["lineItems"])
    assert any("\n" in row["comment"] for row in demo["results"])


def test_users_orgs_and_categories_carry_metadata(demo: Package) -> None:
    filled = {(name, column) for name, column, _ in cells(demo) if column.startswith("metadata.")}
    assert {name for name, _ in filled} == {"categories", "orgs", "users"}
    assert {bool(row["metadata.classId"]) for row in demo["categories"]} == {True, False}


def test_every_class_has_exactly_one_primary_teacher_and_nobody_is_enrolled_twice(demo: Package) -> None:
    primary = Counter(r["classSourcedId"] for r in demo["enrollments"] if r["primary"] == "true")
    twice = Counter((r["classSourcedId"], r["userSourcedId"]) for r in demo["enrollments"])
    assert primary == Counter(ids(demo, "classes"))
    assert {r["primary"] for r in demo["enrollments"] if r["role"] == "teacher"} == {"true", "false"}
    assert {r["primary"] for r in demo["enrollments"] if r["role"] != "teacher"} == {""}
    assert max(twice.values()) == 1


def test_enrollments_name_the_school_of_their_class_and_an_org_of_their_user(demo: Package) -> None:
    school = {row["sourcedId"]: row["schoolSourcedId"] for row in demo["classes"]}
    orgs = {row["sourcedId"]: items(row["orgSourcedIds"]) for row in demo["users"]}
    for row in demo["enrollments"]:
        assert row["schoolSourcedId"] == school[row["classSourcedId"]]
        assert row["schoolSourcedId"] in orgs[row["userSourcedId"]]


def test_courses_belong_to_the_district_and_to_both_schools(demo: Package) -> None:
    owners = {row["orgSourcedId"] for row in demo["courses"]}
    assert owners == ids(demo, "orgs", type="district") | ids(demo, "orgs", type="school")


def test_results_show_every_score_status_extra_credit_and_comments(demo: Package) -> None:
    limits = {row["sourcedId"]: float(row["resultValueMax"]) for row in demo["lineItems"]}
    assert {row["scoreStatus"] for row in demo["results"]} == set(SCORE_STATUSES)
    assert any(float(row["score"]) > limits[row["lineItemSourcedId"]] for row in demo["results"])
    assert {bool(row["comment"]) for row in demo["results"]} == {True, False}
    assert any("." in row["score"] for row in demo["results"])


def test_results_belong_to_students_of_the_class(demo: Package) -> None:
    members = set(enrolled(demo, "student"))
    assert all((one, student) in members for one, _, student, _ in class_results(demo))


def test_line_items_lie_in_a_term_of_their_class(demo: Package) -> None:
    parent = {r["sourcedId"]: r["parentSourcedId"] for r in demo["academicSessions"]}
    terms = {r["sourcedId"]: items(r["termSourcedIds"]) for r in demo["classes"]}
    assert all(parent[r["gradingPeriodSourcedId"]] in terms[r["classSourcedId"]] for r in demo["lineItems"])


def test_race_flags_agree_with_each_other(demo: Package) -> None:
    for row in demo["demographics"]:
        marked = sum(row[race] == "true" for race in RACES)
        assert row["demographicRaceTwoOrMoreRaces"] in ("", str(marked > 1).lower())
