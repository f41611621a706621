"""Repair of invalid rows: roles, user ids, encoding, and lists of files separated by semicolons."""

from __future__ import annotations

import pytest

from chalk_flask.oneroster.csv.row_parser import RowParser
from chalk_flask.oneroster.csv.row_repair import RowRepair, with_comma_lists
from chalk_flask.oneroster.csv.tolerances import DATE, ROLE_SYNONYM, USER_IDS, WINDOWS_1252, WORD, parse_role_map
from chalk_flask.oneroster.schemas import FILES
from tests.support.packages import HEADERS, ROWS


def repair_for(name: str, *, lenient: bool = False, role_map: str = "", map_roles: bool = False) -> RowRepair:
    return RowRepair(FILES[name], HEADERS[name], lenient, parse_role_map(role_map), map_roles)


def row_of(name: str, **cells: str) -> list[str]:
    """Return the first row of the small package with other cells."""
    values = ROWS[name][0] | cells
    return [values.get(column, "") for column in HEADERS[name]]


def cells_of(repair: RowRepair, *columns: str, **cells: str) -> list[str]:
    """Return cells of a repaired row, which must be valid."""
    repaired = repair.repair(row_of(repair.resource_type.name, **cells))
    RowParser(repair.resource_type, repair.header).parse(repaired)
    return [repaired[repair.header.index(column)] for column in columns]


@pytest.mark.reading("A-10")
def test_unknown_role_is_mapped_only_on_request() -> None:
    row = row_of("enrollments", role="aide", primary="true")
    assert repair_for("enrollments").repair(row) is row
    mapping = repair_for("enrollments", map_roles=True)
    assert cells_of(mapping, "role", "primary", role="aide", primary="true") == ["teacher", "false"]
    assert cells_of(mapping, "role", role="student") == ["student"]
    empty = row_of("enrollments", role="")
    assert mapping.repair(empty) is empty


@pytest.mark.parametrize(
    ("name", "word", "role"),
    [
        ("enrollments", "aide", "teacher"),
        ("enrollments", "guardian", "proctor"),
        ("enrollments", "STUDENT", "student"),
        ("users", "Pupil", "student"),
        ("users", "District Administrator", "administrator"),
        ("users", "TEACHER", "teacher"),
    ],
)
def test_lenient_reading_replaces_synonyms_of_roles(name: str, word: str, role: str) -> None:
    repair = repair_for(name, lenient=True)
    assert cells_of(repair, "role", role=word) == [role]
    assert repair.counts[ROLE_SYNONYM] == 1
    row = row_of(name, role=word)
    assert repair_for(name).repair(row) is row


def test_assistant_becomes_a_teacher_who_is_not_primary() -> None:
    repair = repair_for("enrollments", lenient=True)
    assert cells_of(repair, "role", "primary", role="co-teacher", primary="true") == ["teacher", "false"]
    assert cells_of(repair, "role", "primary", role="instructor", primary="true") == ["teacher", "true"]


def test_role_map_of_the_operator_takes_precedence() -> None:
    for lenient in (False, True):
        repair = repair_for(
            "enrollments", lenient=lenient, role_map="guardian=student, tutor = teacher", map_roles=True
        )
        assert cells_of(repair, "role", role="Guardian") == ["student"]
        assert cells_of(repair, "role", "primary", role="tutor", primary="true") == ["teacher", "true"]
        assert repair.mapped_roles == 2


def test_role_map_keeps_roles_of_the_standard_and_of_the_file() -> None:
    assert cells_of(repair_for("users", role_map="aide=teacher"), "role", role="aide") == ["aide"]
    row = row_of("enrollments", role="carer")
    assert repair_for("enrollments", role_map="carer=guardian").repair(row) is row


@pytest.mark.parametrize("text", ["aide", "aide=", "=teacher", "aide=boss", "aide=teacher;tutor=teacher"])
def test_invalid_role_map_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="pairs such as aide=teacher"):
        parse_role_map(text)


@pytest.mark.parametrize("cell", ["1001", "{1001}", "{SIS:1},2"])
def test_malformed_user_ids_are_left_out(cell: str) -> None:
    repair = repair_for("users", lenient=True)
    assert cells_of(repair, "userIds", userIds=cell) == [""]
    assert +repair.counts == {USER_IDS: 1}
    row = row_of("users", userIds=cell)
    assert repair_for("users").repair(row) is row


def test_only_cells_that_are_not_utf8_are_decoded_as_windows_1252() -> None:
    repair = repair_for("users", lenient=True)
    cells = {"givenName": "M\udcfcller", "familyName": "Ž\u00e9", "middleName": "\udc80"}
    assert cells_of(repair, *cells, **cells) == ["Müller", "Žé", "€"]
    assert +repair.counts == {WINDOWS_1252: 1}


def test_bytes_that_windows_1252_lacks_are_not_decoded() -> None:
    row = row_of("users", givenName="\udc81", role="student")
    repair = repair_for("users", lenient=True)
    assert repair.repair(row) is row
    assert not +repair.counts


def test_semicolons_separate_items_of_lists_only() -> None:
    row = row_of("users", orgSourcedIds="org-2;org-3", userIds="{a:1};{b:2}", givenName="A;B", grades="")
    [read] = with_comma_lists(FILES["users"], HEADERS["users"], iter([row]))
    cells = dict(zip(HEADERS["users"], read, strict=True))
    assert (cells["orgSourcedIds"], cells["userIds"], cells["givenName"]) == ("org-2,org-3", "{a:1},{b:2}", "A;B")


@pytest.mark.reading("V-01")
@pytest.mark.parametrize(
    ("name", "column", "cell", "word"),
    [
        ("orgs", "type", "School", "school"),
        ("academicSessions", "type", "GRADINGPERIOD", "gradingPeriod"),
        ("classes", "classType", " Homeroom ", "homeroom"),
        ("demographics", "sex", "M", "male"),
        ("demographics", "sex", "Female", "female"),
        ("demographics", "asian", "N", "false"),
        ("users", "enabledUser", "1", "true"),
        ("users", "enabledUser", "Yes", "true"),
        ("users", "status", "Active", "active"),
        ("users", "status", "Inactive", "inactive"),
        ("resources", "roles", "Student,TEACHER", "student,teacher"),
        ("results", "scoreStatus", "Fully Graded", "fully graded"),
    ],
)
def test_lenient_reading_replaces_other_forms_of_words(name: str, column: str, cell: str, word: str) -> None:
    repair = repair_for(name, lenient=True)
    assert cells_of(repair, column, **{column: cell}) == [word]
    assert repair.counts[WORD] == 1
    row = row_of(name, **{column: cell})
    assert repair_for(name).repair(row) is row


@pytest.mark.reading("I-24")
@pytest.mark.parametrize(
    "cell",
    ["2026-08-17 00:00:00.000", "2026-08-17T00:00:00Z", "2026-08-17T00:00:00.0000000", "2026/08/17", "20260817"],
)
def test_lenient_reading_takes_the_day_of_other_dates(cell: str) -> None:
    repair = repair_for("enrollments", lenient=True)
    assert cells_of(repair, "beginDate", beginDate=cell) == ["2026-08-17"]
    assert repair.counts[DATE] == 1


@pytest.mark.parametrize("cell", ["2026-08-17T04:00:00Z", "17/08/2026", "2026-08/17", "46251", "2026/8/17"])
def test_lenient_reading_does_not_guess_a_day(cell: str) -> None:
    repair = repair_for("enrollments", lenient=True)
    row = row_of("enrollments", beginDate=cell)
    assert repair.repair(row) is row


@pytest.mark.parametrize(
    ("name", "column", "cell", "hint"),
    [
        ("users", "role", "Student", "reads it as student."),
        ("users", "role", "pupil", "Use one of these roles. Lenient reading (--lenient) reads it as student."),
        ("users", "role", "tutor", "or let the operator map it with the setting import_role_map"),
        ("enrollments", "role", "aide", "reads it as teacher."),
        ("orgs", "type", "School", "Write school: letter case counts. Lenient reading (--lenient) accepts it."),
        ("orgs", "type", "campus", "Use one of these words."),
        ("users", "enabledUser", "yes", "Write true or false. Lenient reading (--lenient) accepts it."),
        ("users", "enabledUser", "perhaps", "Write true or false."),
        ("demographics", "sex", "F", "Lenient reading (--lenient) accepts it."),
        ("demographics", "birthDate", "2015/03/01", "Lenient reading (--lenient) accepts it."),
        ("demographics", "birthDate", "2015/13/01", ""),
        ("demographics", "birthDate", "03/01/2015", ""),
    ],
)
def test_hint_names_lenient_reading_exactly_if_it_accepts_the_cell(
    name: str, column: str, cell: str, hint: str
) -> None:
    row = row_of(name, **{column: cell})
    [problem] = RowParser(FILES[name], HEADERS[name]).problems_in(row)
    assert problem.hint.endswith(hint) or hint in problem.hint
    repaired = repair_for(name, lenient=True).repair(row)
    is_accepted = not list(RowParser(FILES[name], HEADERS[name]).problems_in(repaired))
    assert ("Lenient reading (--lenient)" in problem.hint) is is_accepted


def test_rows_with_other_words_are_not_counted_with_tolerated_ones() -> None:
    parser = RowParser(FILES["users"], HEADERS["users"])
    causes = {
        cell: next(iter(parser.problems_in(row_of("users", enabledUser=cell)))).cause for cell in ("yes", "n", "?")
    }
    assert causes["yes"] == causes["n"] != causes["?"]
