"""Demo district: dialect, people, dates and relations."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter

import pytest

from tests.demo.csv_packages import (
    DEMO,
    HEADERS,
    RACES,
    ROLES,
    SCORE_STATUSES,
    Package,
    cells,
    ids,
    items,
    read,
)
from tests.demo.reads import class_results, enrolled


@pytest.mark.parametrize("name", HEADERS)
def test_demo_files_have_headers_and_dialect_of_the_standard(name: str) -> None:
    raw = (DEMO / f"{name}.csv").read_bytes()
    rewritten = io.StringIO()
    csv.writer(rewritten, lineterminator="\r\n").writerows(read(DEMO / f"{name}.csv"))
    head, standard = read(DEMO / f"{name}.csv")[0], HEADERS[name].split(",")
    assert raw == rewritten.getvalue().encode(), "CRLF, no byte order mark, quotes only where they are needed"
    assert head[: len(standard)] == standard
    assert all(column.startswith("metadata.") for column in head[len(standard) :])


def test_demo_leaves_status_date_and_password_blank(demo: Package) -> None:
    filled = {column for _, column, _ in cells(demo)}
    assert filled & {"status", "dateLastModified", "password"} == set()


def test_demo_has_a_district_two_schools_and_one_school_year(demo: Package) -> None:
    parents = {r["type"]: r["parentSourcedId"] for r in demo["orgs"]}
    levels = {r["sourcedId"]: (r["type"], r["parentSourcedId"]) for r in demo["academicSessions"]}
    steps = {(kind, levels[parent][0] if parent else "") for kind, parent in levels.values()}
    assert Counter(r["type"] for r in demo["orgs"]) >= Counter(district=1, school=2, department=1)
    assert parents["district"] == ""
    assert parents["school"] in ids(demo, "orgs", type="district")
    expected = {("schoolYear", ""), ("semester", "schoolYear"), ("term", "semester"), ("gradingPeriod", "term")}
    assert steps == expected


def test_demo_dates_are_within_their_sessions(demo: Package) -> None:
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


def test_demo_users_have_every_role_and_students_are_complete(demo: Package) -> None:
    students = [row for row in demo["users"] if row["role"] == "student"]
    assert {row["role"] for row in demo["users"]} == set(ROLES)
    assert 60 <= len(demo["users"]) <= 90
    assert all(row["grades"] for row in students)
    assert ids(demo, "demographics") == {row["sourcedId"] for row in students}
    assert {row["enabledUser"] for row in demo["users"]} == {"true", "false"}


def test_demo_users_have_unique_emails_and_usernames(demo: Package) -> None:
    mails = Counter(row["email"].lower() for row in demo["users"] if row["email"])
    names = Counter(row["username"].lower() for row in demo["users"])
    assert all(row["email"] for row in demo["users"] if row["role"] == "teacher")
    assert max(mails.values()) == max(names.values()) == 1
    assert not any("@" in name for name in names)


def test_demo_hosts_and_phone_numbers_are_reserved(demo: Package) -> None:
    for row in demo["users"]:
        assert re.fullmatch(r"([a-z.]+@([a-z]+\.)*example(\.org)?)?", row["email"])
        assert all(re.fullmatch(r"(\+1 202 555 01\d\d)?", row[column]) for column in ("sms", "phone"))


def test_demo_agents_link_students_and_family_both_ways(demo: Package) -> None:
    role = {row["sourcedId"]: row["role"] for row in demo["users"]}
    links = {(row["sourcedId"], agent) for row in demo["users"] for agent in items(row["agentSourcedIds"])}
    assert links == {(other, one) for one, other in links}
    assert all((role[one] == "student") != (role[other] == "student") for one, other in links)
    assert {role[one] for one, _ in links} == {"student", "guardian", "parent", "relative"}


def test_demo_names_use_several_scripts(demo: Package) -> None:
    names = "".join(row["givenName"] + row["familyName"] for row in demo["users"])
    scripts = {unicodedata.name(letter).split()[0] for letter in names if letter.isalpha()}
    assert scripts >= {"ARABIC", "CJK", "CYRILLIC", "DEVANAGARI", "GREEK", "HANGUL", "LATIN"}
    assert {"O'Brien", "Nguyễn", "Lefèvre"} <= {row["familyName"] for row in demo["users"]}


def test_demo_user_ids_have_types_in_braces(demo: Package) -> None:
    user_ids = [item for row in demo["users"] for item in items(row["userIds"])]
    assert all(re.fullmatch(r"\{[A-Za-z]+:[^{}]+\}", item) for item in user_ids)
    assert {item[1:].split(":")[0] for item in user_ids} == {"Fed", "LDAP", "SIS"}


def test_demo_has_cells_with_commas_quotes_and_line_breaks(demo: Package) -> None:
    titles = [value for _, column, value in cells(demo) if column in ("title", "name")]
    assert any("," in title for title in titles)
    assert any('"' in title for title in titles)
    assert any("\n" in row["description"] for row in demo["lineItems"])
    assert any("\n" in row["comment"] for row in demo["results"])


def test_demo_users_orgs_and_categories_have_metadata(demo: Package) -> None:
    filled = {(name, column) for name, column, _ in cells(demo) if column.startswith("metadata.")}
    assert {name for name, _ in filled} == {"categories", "orgs", "users"}
    assert {bool(row["metadata.classId"]) for row in demo["categories"]} == {True, False}


def test_demo_classes_have_one_primary_teacher_and_unique_members(demo: Package) -> None:
    primary = Counter(r["classSourcedId"] for r in demo["enrollments"] if r["primary"] == "true")
    twice = Counter((r["classSourcedId"], r["userSourcedId"]) for r in demo["enrollments"])
    assert primary == Counter(ids(demo, "classes"))
    assert {r["primary"] for r in demo["enrollments"] if r["role"] == "teacher"} == {"true", "false"}
    assert {r["primary"] for r in demo["enrollments"] if r["role"] != "teacher"} == {""}
    assert max(twice.values()) == 1


def test_demo_enrollments_match_class_and_user(demo: Package) -> None:
    school = {row["sourcedId"]: row["schoolSourcedId"] for row in demo["classes"]}
    orgs = {row["sourcedId"]: items(row["orgSourcedIds"]) for row in demo["users"]}
    for row in demo["enrollments"]:
        assert row["schoolSourcedId"] == school[row["classSourcedId"]]
        assert row["schoolSourcedId"] in orgs[row["userSourcedId"]]


def test_demo_courses_belong_to_the_district_and_schools(demo: Package) -> None:
    owners = {row["orgSourcedId"] for row in demo["courses"]}
    assert owners == ids(demo, "orgs", type="district") | ids(demo, "orgs", type="school")


def test_demo_results_have_every_status_extra_credit_and_comments(demo: Package) -> None:
    limits = {row["sourcedId"]: float(row["resultValueMax"]) for row in demo["lineItems"]}
    assert {row["scoreStatus"] for row in demo["results"]} == set(SCORE_STATUSES)
    assert any(float(row["score"]) > limits[row["lineItemSourcedId"]] for row in demo["results"])
    assert {bool(row["comment"]) for row in demo["results"]} == {True, False}
    assert any("." in row["score"] for row in demo["results"])


def test_demo_results_belong_to_students_of_the_class(demo: Package) -> None:
    members = set(enrolled(demo, "student"))
    assert all((one, student) in members for one, _, student, _ in class_results(demo))


def test_demo_line_items_are_in_a_term_of_their_class(demo: Package) -> None:
    parent = {r["sourcedId"]: r["parentSourcedId"] for r in demo["academicSessions"]}
    terms = {r["sourcedId"]: items(r["termSourcedIds"]) for r in demo["classes"]}
    assert all(parent[r["gradingPeriodSourcedId"]] in terms[r["classSourcedId"]] for r in demo["lineItems"])


def test_demo_race_flags_are_consistent(demo: Package) -> None:
    for row in demo["demographics"]:
        marked = sum(row[race] == "true" for race in RACES)
        assert row["demographicRaceTwoOrMoreRaces"] in ("", str(marked > 1).lower())
