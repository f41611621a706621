"""Filter language: lenient grammar, and the condition that a clause means for each field type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import KEY, MATCH_ALL, And, Compare, Not, Or, Where
from chalk_flask.oneroster.filters import Clause, Filter, FilterError, compile_filter, parse_filter
from chalk_flask.oneroster.schemas import RESOURCES

PREDICATES = ["=", "!=", "<", "<=", ">", ">=", "~"]


def clause(text: str) -> Clause:
    """Return the only clause of a filter."""
    parsed = parse_filter(text)
    assert parsed is not None
    [first] = parsed.clauses
    return first


def where(resource: str, text: str) -> Where:
    """Return the condition that a filter means for a collection."""
    parsed = parse_filter(text)
    assert parsed is not None
    return compile_filter(parsed, RESOURCES[resource])


@pytest.mark.reading("Q-05")
@pytest.mark.parametrize("predicate", PREDICATES)
@pytest.mark.parametrize("form", ["familyName{}'x'", "familyName {} 'x'", " familyName  {}'x' "])
def test_clause_has_field_predicate_and_quoted_value(predicate: str, form: str) -> None:
    assert clause(form.format(predicate)) == Clause("familyName", predicate, "x")  # type: ignore[arg-type]  # a literal


@pytest.mark.parametrize("logical", ["AND", "OR"])
def test_two_clauses_are_joined_by_and_or_or(logical: str) -> None:
    assert parse_filter(f"a='1' {logical} b.c~'2'") == Filter(
        (Clause("a", "=", "1"), Clause("b.c", "~", "2")),
        logical,  # type: ignore[arg-type]  # a literal
    )


@pytest.mark.reading("Q-06")
@pytest.mark.parametrize("text", ["", " ", "\t "])
def test_blank_filter_is_none(text: str) -> None:
    assert parse_filter(text) is None


@pytest.mark.reading("Q-07")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("f='O''Brien'", "O'Brien"),
        ("f='O'Brien'", "O'Brien"),
        ("f=''", ""),
        ("f=''''", "'"),
        ("f='a''b''c'", "a'b'c"),
        ("f='rock 'n' roll'", "rock 'n' roll"),
        ("f='this AND that'", "this AND that"),
        ("f='this and that'", "this and that"),
        ("f='Smith' AND Sons'", "Smith' AND Sons"),
        ("f='a=b'", "a=b"),
        ("f='x'' AND g=''y'", "x' AND g='y"),
        ("f='  x '", "  x "),
        ("f='“x”'", "“x”"),
        ("f='50%_'", "50%_"),
        ("f='a,b'", "a,b"),
        ('f="x"', "x"),
        ('f=""', ""),
        ('f="O\'Brien"', "O'Brien"),
        ('f="say ""hi"""', 'say "hi"'),
        ('f="say "hi" to"', 'say "hi" to'),
        ("f='say \"hi\"'", 'say "hi"'),
        ("f='it's a=\"b\"'", 'it\'s a="b"'),
        ('f="this AND that"', "this AND that"),
    ],
)
def test_value_can_contain_quotes_and_logical_operators(text: str, value: str) -> None:
    assert clause(text).value == value


@pytest.mark.reading("Q-07")
@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("f='O'Brien' AND g='y'", ["O'Brien", "y"]),
        ("f='a AND b' OR g='c OR d'", ["a AND b", "c OR d"]),
        ("f='' AND g=''", ["", ""]),
        ("f='x' AND g = 'it's'", ["x", "it's"]),
        ("f=5 AND g=true", ["5", "true"]),
        ("f='x' OR g=-1.5e3", ["x", "-1.5e3"]),
        ('f="x" AND g="y"', ["x", "y"]),
        ("f=\"x\" OR g='y'", ["x", "y"]),
        ("f='x' AND g=\"y\"", ["x", "y"]),
        ('f="O"Brien" AND g=5', ['O"Brien', "5"]),
    ],
)
def test_second_clause_begins_after_the_closing_quote(text: str, values: list[str]) -> None:
    parsed = parse_filter(text)
    assert parsed is not None
    assert [clause.value for clause in parsed.clauses] == values


@pytest.mark.reading("Q-08")
@pytest.mark.parametrize("value", ["5", "-5", "+5", "1.5", ".5", "1e3", "true", "false", "TRUE"])
def test_number_and_boolean_need_no_quotes(value: str) -> None:
    assert clause(f"f={value}").value == value


@pytest.mark.reading("Q-05", "Q-08", "Q-09")
@pytest.mark.parametrize(
    "text",
    [
        *("f", "f=", "='x'", "'x'", "f'x'", "f=x", "f=2024-03-01", "f=nan", "f=1e999", "f='x", "f=x'", "f='"),
        *("f==''x'", "f<>'x'", "f=>'x'", "1f='x'", ".f='x'", "f.='x'", "f..g='x'", "f g='x'", "(f='x')", "f='x')"),
        *(
            "f=‘x’",
            "f='x’",
            "f=\"x'",
            "f='x\"",
            'f="x',
            'f=x"',
            "f=“x”",
            "f='x'g='y'",
            "f='x';g='y'",
            "f='x' g='y'",
            "f='x',g='y'",
            "NOT f='x'",
        ),
        *("f='x' and g='y'", "f='x' or g='y'", "f='x' And g='y'", "f='x'  AND g='y'", "f='x' AND  g='y'"),
        *("f='x'\tAND\tg='y'", "f='x'AND g='y'", "f='x' AND", "f='x' AND g", "f='x' XOR g='y'", "f='x' AND (g='y')"),
        *("f='1' AND g='2' AND h='3'", "f='1' AND g='2' OR h='3'", "f='1' OR g='2' and h='3'", "f=5 6", "f=5'x'"),
        *('f="x" and g="y"', 'f="x"g="y"', 'f="x";g="y"', 'f="x" g="y"', 'f=5"x"', 'f="x" AND (g="y")'),
        *("f=5 AND g=6 AND h=7", "f~*", "AND", "f=null", "f=5AND g=6"),
    ],
)
def test_invalid_filter_is_rejected(text: str) -> None:
    with pytest.raises(FilterError) as error:
        parse_filter(text)
    assert not error.value.unknown_field


@given(st.text(), st.text())
def test_value_with_doubled_quotes_is_parsed_unchanged(first: str, second: str) -> None:
    def quoted(value: str) -> str:
        return "'" + value.replace("'", "''") + "'"

    parsed = parse_filter(f"f={quoted(first)} AND g={quoted(second)}")
    assert parsed == Filter((Clause("f", "=", first), Clause("g", "=", second)))


@given(st.text(alphabet="abAND OR'=<>~!.,5\t’"))
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    try:
        parsed = parse_filter(text)
    except FilterError:
        return
    assert parsed is None or 1 <= len(parsed.clauses) <= 2


def test_long_value_with_many_quotes_is_parsed_quickly() -> None:
    assert len(clause("f='" + "''" * 500_000 + "'").value) == 500_000
    assert len(clause("f='" + "' " * 500_000 + "'").value) == 1_000_000


@pytest.mark.reading("Q-10", "Q-12")
@pytest.mark.parametrize(
    ("resource", "text", "condition"),
    [
        ("users", "familyName='JONES'", Compare("familyName", "=", "jones")),
        ("users", "familyName!='Straße'", Not(Compare("familyName", "=", "strasse"))),
        ("users", "familyName~'O%_'", Compare("familyName", "~", "o%_")),
        ("users", "familyName<'B, C'", Compare("familyName", "<", "b, c")),
        ("users", "role='Student'", Compare("role", "=", "student")),
        ("users", "role='nobody'", Compare("role", "=", "nobody")),
        ("users", "sourcedId='U-1'", Compare(KEY, "=", "U-1")),
        ("users", "sourcedId~'U'", Compare(KEY, "~", "U")),
        ("users", "sourcedId='a,b'", Compare(KEY, "=", "a,b")),
        ("classes", "class.sourcedId='C-1'", None),
        ("classes", "course.sourcedId='K-1'", Compare("course.sourcedId", "=", "K-1")),
        ("classes", "course='K-1'", Compare("course.sourcedId", "=", "K-1")),
        ("users", "orgs.sourcedId='S-1'", Compare("orgs.sourcedId", "=", "S-1")),
        ("users", "orgs='S-1'", Compare("orgs.sourcedId", "=", "S-1")),
        ("users", "userIds.type='LDAP'", Compare("userIds.type", "=", "ldap")),
        ("orgs", "metadata.a.B-c:d='X,y'", Compare("metadata.a.B-c:d", "=", "x,y")),
        ("orgs", "metadata.href='x'", Compare("metadata.href", "=", "x")),
    ],
)
def test_text_ignores_case_and_id_does_not(resource: str, text: str, condition: Where | None) -> None:
    if condition is None:
        with pytest.raises(FilterError):
            where(resource, text)
    else:
        assert where(resource, text) == condition


@pytest.mark.reading("Q-23")
@pytest.mark.parametrize("field", ["familyName", "grades", "metadata.x"])
def test_long_value_is_rejected_only_if_text_is_searched_for_it(field: str) -> None:
    assert isinstance(where("users", f"{field}~'{'ß' * 256}'"), Compare)
    assert isinstance(where("users", f"{field}='{'a' * 257}'"), Compare)
    with pytest.raises(FilterError, match=rf"{field} has 257 characters: with ~ at most 256 are allowed"):
        where("users", f"{field}~'{'a' * 257}'")


@pytest.mark.reading("A-05")
@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("grades='09'", Compare("grades", "=", "09")),
        ("grades='10, 09'", And((Compare("grades", "=", "10"), Compare("grades", "=", "09")))),
        ("grades='09,09,'", Compare("grades", "=", "09")),
        ("grades~'0,1'", Or((Compare("grades", "~", "0"), Compare("grades", "~", "1")))),
        ("grades!='09,10'", Not(And((Compare("grades", "=", "09"), Compare("grades", "=", "10"))))),
        ("grades>'09,10'", Compare("grades", ">", "09,10")),
        ("grades=''", Compare("grades", "=", "")),
        ("orgs='A,b'", And((Compare("orgs.sourcedId", "=", "A"), Compare("orgs.sourcedId", "=", "b")))),
    ],
)
def test_list_of_values_means_all_for_equality_and_any_for_contains(text: str, condition: Where) -> None:
    assert where("users", text) == condition


@pytest.mark.reading("Q-13")
def test_list_of_values_has_a_maximum_length() -> None:
    where("users", "grades~'" + ",".join(map(str, range(100))) + "'")
    with pytest.raises(FilterError, match="at most 100"):
        where("users", "grades~'" + ",".join(map(str, range(101))) + "'")


@pytest.mark.reading("Q-14")
@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("beginDate='2024-03-01'", Compare("beginDate", "=", "2024-03-01")),
        ("beginDate>'2024-03-01T23:59:59-05:00'", Compare("beginDate", ">", "2024-03-01")),
        ("beginDate~'2024-03'", Compare("beginDate", "~", "2024-03")),
        ("beginDate!='2024-03-01'", Not(Compare("beginDate", "=", "2024-03-01"))),
    ],
)
def test_date_is_compared_with_the_day_of_a_date_time(text: str, condition: Where) -> None:
    assert where("enrollments", text) == condition


@pytest.mark.reading("Q-14")
@pytest.mark.parametrize(
    ("text", "condition"),
    [
        (">'2024-03-01'", Compare("dateLastModified", ">", "2024-03-01t00:00:00.000z")),
        ("='2024-03-01T01:00:00+01:00'", Compare("dateLastModified", "=", "2024-03-01t00:00:00.000z")),
        ("='2024-03-01T01:00:00 01:00'", Compare("dateLastModified", "=", "2024-03-01t00:00:00.000z")),
        ("<='2024-03-01T00:00:00.5Z'", Compare("dateLastModified", "<=", "2024-03-01t00:00:00.500z")),
        ("~'T09:30'", Compare("dateLastModified", "~", "t09:30")),
        (">'2024-03-01T00:00:00.0001Z'", Compare("dateLastModified", ">", "2024-03-01t00:00:00.000z")),
        (">='2024-03-01T00:00:00.0001Z'", Compare("dateLastModified", ">", "2024-03-01t00:00:00.000z")),
        ("<'2024-03-01T00:00:00.0001Z'", Compare("dateLastModified", "<=", "2024-03-01t00:00:00.000z")),
        ("<='2024-03-01T00:00:00.0001Z'", Compare("dateLastModified", "<=", "2024-03-01t00:00:00.000z")),
        ("='2024-03-01T00:00:00.0001Z'", Or(())),
        ("!='2024-03-01T00:00:00.0001Z'", MATCH_ALL),
    ],
)
def test_date_time_is_compared_in_utc_with_milliseconds(text: str, condition: Where) -> None:
    assert where("users", f"dateLastModified{text}") == condition


@pytest.mark.reading("Q-15")
@pytest.mark.parametrize(
    ("resource", "text", "condition"),
    [
        ("results", "score='87.50'", Compare("score", "=", 87.5)),
        ("results", "score>-5", Compare("score", ">", -5.0)),
        ("results", "score!='3e2'", Not(Compare("score", "=", 300.0))),
        ("results", "score~'7.5'", Compare("score#text", "~", "7.5")),
        ("results", "score~'x'", Compare("score#text", "~", "x")),
        ("academicSessions", "schoolYear='2024'", Compare("schoolYear", "=", "2024")),
        ("academicSessions", "schoolYear='02024'", Compare("schoolYear", "=", "02024")),
        ("academicSessions", "schoolYear>='2024.0'", Compare("schoolYear#number", ">=", 2024.0)),
        ("academicSessions", "schoolYear~'02'", Compare("schoolYear", "~", "02")),
        ("users", "enabledUser=TRUE", Compare("enabledUser", "=", "true")),
        ("users", "enabledUser!='False'", Not(Compare("enabledUser", "=", "false"))),
        ("users", "enabledUser>'f'", Compare("enabledUser", ">", "f")),
        ("users", "enabledUser~'TR'", Compare("enabledUser", "~", "tr")),
    ],
)
def test_number_year_and_boolean_compare_by_type(resource: str, text: str, condition: Where) -> None:
    assert where(resource, text) == condition


@pytest.mark.reading("Q-10", "Q-15")
@pytest.mark.parametrize(
    ("resource", "text"),
    [
        ("users", "dateLastModified>'soon'"),
        ("users", "dateLastModified=''"),
        ("users", "dateLastModified='2024-02-30'"),
        ("users", "dateLastModified='2024-03-01T25:00:00Z'"),
        ("enrollments", "beginDate='2024-3-1'"),
        ("enrollments", "beginDate<'2024-02-30'"),
        ("enrollments", "beginDate<'2024-03-01 or so'"),
        ("results", "score='good'"),
        ("results", "score>''"),
        ("results", "score='1,5'"),
        ("results", "score='NaN'"),
        ("academicSessions", "schoolYear>'next'"),
        ("users", "enabledUser='yes'"),
        ("users", "enabledUser!=''"),
        ("users", "familyName='\ud800'"),
        ("users", "password='secret'"),
        ("users", "href='x'"),
        ("users", "orgs.href='x'"),
    ],
)
def test_value_that_is_invalid_for_its_type_is_rejected(resource: str, text: str) -> None:
    with pytest.raises(FilterError) as error:
        where(resource, text)
    assert not error.value.unknown_field


@pytest.mark.parametrize(
    "field",
    ["shoeSize", "familyname", "SourcedId", "orgs.type", "orgs.name", "class.sourcedId", "metadata", "userIds", "é"],
)
def test_unknown_field_is_named_in_the_error(field: str) -> None:
    with pytest.raises(
        FilterError, match=f"Unknown filter field: {field}" if field != "é" else "not a filter"
    ) as error:
        where("users", f"{field}='x'")
    assert error.value.unknown_field is (field != "é")


def test_unknown_field_of_another_letter_case_names_the_field() -> None:
    for text, name in (("familyname='x'", "familyName"), ("ORGS.sourcedid='x'", "orgs.sourcedId")):
        with pytest.raises(FilterError, match=rf"Names are case-sensitive: write {name}\.") as error:
            where("users", text)
        assert error.value.unknown_field


@pytest.mark.parametrize(("text", "predicate"), [("role=='x'", "=="), ("role<>'x'", "<>"), ("role= ~'x'", "= ~")])
def test_unknown_predicate_is_named_in_the_error(text: str, predicate: str) -> None:
    with pytest.raises(FilterError, match=f"'{predicate}' is not a predicate: write one of = != "):
        parse_filter(text)


def test_value_that_ends_at_an_unencoded_ampersand_names_the_encoding() -> None:
    with pytest.raises(FilterError, match="write & as %26"):
        parse_filter("courseCode='R")


def test_two_clauses_compile_to_and_or_or() -> None:
    first, second = Compare("role", "=", "student"), Compare("status", "=", "active")
    assert where("users", "role='student' AND status='active'") == And((first, second))
    assert where("users", "role='student' OR status='active'") == Or((first, second))
