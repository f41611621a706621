"""What filters find, on every backend (digest 4.3)."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

import pytest

from tests.support.api_client import Consumer, error_message


@pytest.mark.reading("A-05", "Q-10", "Q-12", "Q-14", "Q-15")
@pytest.mark.parametrize(
    ("collection", "text", "expected"),
    [
        ("users", "familyName='jones'", "u-2"),
        ("users", "familyName='O'Brien'", "u-1 u-6"),
        ("users", "familyName='O''Brien' AND role='GUARDIAN'", "u-6"),
        ("users", "familyName='Jones AND Sons'", "u-4"),
        ("users", "familyName~'jones'", "u-2 u-4"),
        ("users", "familyName='MÜLLER'", "u-3"),
        ("users", "givenName='çELIK'", "u-3"),
        ("users", "familyName~'%'", "u-5"),
        ("users", "familyName~'_'", ""),
        ("users", "familyName>='y'", "u-7 u-8"),
        ("users", "familyName<'b'", "u-5"),
        ("users", "middleName='mary ann'", "u-5"),
        ("users", "middleName!='x'", "u-1 u-2 u-3 u-4 u-5 u-6 u-7 u-8 u-9"),
        ("users", "middleName>=''", "u-5"),
        ("users", "role='student' AND status='active'", "u-1 u-2 u-3"),
        ("users", "role='teacher' OR role='aide'", "u-4 u-5 u-9"),
        ("users", "role='principal'", ""),
        ("users", "status!='active'", "u-8"),
        ("users", "sourcedId='U-1'", ""),
        ("users", "sourcedId='u-1'", "u-1"),
        ("users", "sourcedId>'u-7'", "u-8 u-9"),
        ("users", "email='U-4@NORTH.example'", "u-4"),
        ("users", "enabledUser=FALSE", "u-3"),
        ("users", "enabledUser!='true'", "u-3"),
        ("users", "orgs='s-2'", "u-2 u-3 u-5"),
        ("users", "orgs.sourcedId='s-2,s-1'", "u-2"),
        ("users", "orgs.sourcedId~'s-2,d-'", "u-2 u-3 u-5 u-7"),
        ("users", "orgs!='s-1,s-2'", "u-1 u-3 u-4 u-5 u-6 u-7 u-8 u-9"),
        ("users", "agents.sourcedId='u-6'", "u-1"),
        ("users", "grades='09'", "u-1"),
        ("users", "grades~'09,10'", "u-1 u-2"),
        ("users", "grades!='09'", "u-2 u-3 u-4 u-5 u-6 u-7 u-8 u-9"),
        ("users", "userIds.type='ldap'", "u-1"),
        ("users", "userIds.identifier='77' AND userIds.type='SIS'", "u-1"),
        ("users", "dateLastModified>'2024-03-01'", "u-1 u-2 u-3 u-4 u-5 u-6 u-7 u-8 u-9"),
        ("users", "dateLastModified>'2024-03-01T09:30:00.000Z'", "u-8"),
        ("users", "dateLastModified>='2024-03-01T10:30:00+01:00' AND role='teacher'", "u-4 u-5"),
        ("users", "dateLastModified<='2024-03-01T09:29:59.9999Z'", ""),
        ("users", "dateLastModified~'2024-04'", "u-8"),
        ("enrollments", "role='student' AND class='c-2'", "e-5 e-6"),
        ("enrollments", "class.sourcedId='c-3'", "e-7 e-8"),
        ("enrollments", "endDate<'2023-09-06T10:00:00Z'", "e-5"),
        ("enrollments", "beginDate='2023-09-04' AND primary='true'", "e-3"),
        ("enrollments", "beginDate~'-09-' AND user='u-3'", "e-7"),
        ("classes", "subjects='chemistry'", "c-1"),
        ("classes", "subjects~'chemistry,physics'", "c-1"),
        ("classes", "terms='t-1,t-2'", "c-2"),
        ("classes", "periods>='2'", "c-1"),
        ("classes", "school.sourcedId='s-2' AND location='annex'", "c-4"),
        ("courses", "subjects='physics,chemistry'", "k-1"),
        ("resources", "roles='teacher,student'", "r-1"),
        ("resources", "importance='PRIMARY'", "r-1"),
        ("orgs", "metadata.region='north'", "s-3"),
        ("orgs", "metadata.boards.lead='ADA'", "s-3"),
        ("orgs", "metadata.size='3'", "s-3"),
        ("orgs", "metadata.nothing='x'", ""),
        ("orgs", "metadata.nothing!='x'", "d-1 p-1 s-1 s-2 s-3"),
        ("orgs", "children='p-1'", "s-2"),
        ("orgs", "identifier~'nces-s'", "s-1 s-2 s-3"),
        ("results", "score=87.5", "x-1"),
        ("results", "score>='87.50'", "x-1 x-2"),
        ("results", "score<0", "x-3"),
        ("results", "score~'7.'", "x-1"),
        ("results", "scoreStatus='Fully Graded' AND student='u-2'", "x-2"),
        ("lineItems", "resultValueMax='12.5'", "l-2"),
        ("lineItems", "dueDate='2023-10-09'", "l-1 l-2 l-4"),
        ("academicSessions", "schoolYear='2024' AND type='schoolyear'", "y-1"),
        ("academicSessions", "schoolYear>2023 AND startDate>='2024-01-01'", "t-2 t-3"),
        ("academicSessions", "schoolYear>2024", ""),
        ("demographics", "birthDate<'2009-01-01'", "u-2"),
        ("demographics", "asian='False'", "u-1"),
        ("schools/s-1/students", "familyName~'o'", "u-1 u-2 u-8"),
        ("classes/c-1/students", "sourcedId!='u-1'", "u-2"),
        ("schools", "type='district'", ""),
        ("categories", "metadata.classId='c-1'", "cat-2"),
    ],
)
def test_filter_selects_records(consumer: Consumer, collection: str, text: str, expected: str) -> None:
    wanted = expected.split()
    answer = consumer.get(f"/{collection}?filter={quote(text, safe='')}")
    assert answer.headers["X-Total-Count"] == str(len(wanted))
    assert consumer.ids(f"/{collection}?filter={quote(text, safe='')}") == sorted(wanted)
    assert consumer.ids(f"/{collection}?filter={quote_plus(text)}") == sorted(wanted)


@pytest.mark.reading("Q-05")
def test_raw_filter_is_accepted(consumer: Consumer) -> None:
    assert consumer.ids("/users?filter=role='student' AND status='active'&limit=1") == ["u-1"]
    assert consumer.ids("/users?filter=") == consumer.ids("/users")
    assert consumer.ids("/users?filter=%20") == consumer.ids("/users")


def test_bytes_that_are_not_utf_8_match_nothing(consumer: Consumer) -> None:
    assert consumer.ids("/users?filter=familyName='%ff%fe'") == []
    assert consumer.ids("/users?filter=familyName='%00'") == []


@pytest.mark.parametrize("text", ["shoeSize='1'", "familyname='x'", "orgs.type='org'", "status='active' AND shoe='x'"])
def test_unknown_filter_field_is_rejected_by_name(consumer: Consumer, text: str) -> None:
    answer = consumer.get(f"/users?filter={quote(text)}")
    message = error_message(answer, 400, "invalid_filter_field", "invalid_filter_field")
    assert message.startswith("Unknown filter field: ")
    assert message.removeprefix("Unknown filter field: ") in text


@pytest.mark.reading("Q-09", "Q-10")
@pytest.mark.parametrize(
    "text",
    [
        *("status=active", "status='active' and role='student'", "a", "status='active", "status=‘active’"),
        *("status='a' OR status='b' OR status='c'", "dateLastModified>'soon'", "password='x'", "orgs.href='x'"),
        *("enabledUser='maybe'", "(status='active')", "shoeSize"),
    ],
)
def test_malformed_filter_is_rejected(consumer: Consumer, text: str) -> None:
    error_message(consumer.get(f"/users?filter={quote(text)}"), 400, "invalid_data", "invalid data")
