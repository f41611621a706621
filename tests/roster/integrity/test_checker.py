"""Integrity check of a store: problems, counts and digests."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from backends import Backend, Record, open_store
from chalk_flask.oneroster.resource_type import with_timestamp, without_timestamp
from chalk_flask.oneroster.schemas import FILES, RESOURCES
from chalk_flask.roster.integrity.canonical_form_check import CanonicalForm
from chalk_flask.roster.integrity.checker import IntegrityReport, check_store
from chalk_flask.storage import COLLECTIONS

BASE = {"status": "active", "dateLastModified": "2031-05-02T08:00:00.000Z"}
DELETED = {"status": "tobedeleted"}

ROSTER: dict[str, list[dict[str, Any]]] = {
    "orgs": [
        {"sourcedId": "o-1", "name": "District", "type": "district", "children": ["o-2", "o-3"]},
        {"sourcedId": "o-2", "name": "Nørrebro – 東", "type": "school", "parent": "o-1"},
        {"sourcedId": "o-3", "name": 'South "Old Mill"', "type": "school", "parent": "o-1", "identifier": "9/1"},
        {"sourcedId": "o-4", "name": "Closed", "type": "school", "parent": "o-1", **DELETED},
    ],
    "academicSessions": [
        {
            "sourcedId": "s/1 é",
            "title": "Term",
            "type": "term",
            "startDate": "2031-01-01",
            "endDate": "2031-06-01",
            "schoolYear": "2031",
        }
    ],
    "resources": [
        {
            "sourcedId": "r-1",
            "vendorResourceId": "v",
            "roles": ["student"],
            "metadata": {"a": [1, {"href": "/x"}], "b": 1.50},
        }
    ],
    "courses": [{"sourcedId": "co-1", "title": "Algebra", "org": "o-1", "resources": ["r-1"]}],
    "courseResources": [{"sourcedId": "cr-1", "course": "co-1", "resource": "r-1"}],
    "classes": [
        {
            "sourcedId": "c-1",
            "title": "Algebra 1",
            "course": "co-1",
            "school": "o-2",
            "terms": ["s/1 é"],
            "grades": ["09", "10"],
            "periods": ["1"],
        }
    ],
    "users": [
        {
            "sourcedId": "u-1",
            "enabledUser": "true",
            "orgs": ["o-2", "o-3"],
            "role": "student",
            "username": "u1",
            "givenName": "Séan",
            "familyName": "O'Brien",
            "userIds": [{"type": "LDAP", "identifier": "1"}],
            "agents": ["u-2"],
            "metadata": {"shoe": "41"},
        },
        {
            "sourcedId": "u-2",
            "enabledUser": "false",
            "orgs": ["o-2"],
            "role": "parent",
            "username": "u2",
            "givenName": "Мария",
            "familyName": "O'Brien",
        },
    ],
    "demographics": [{"sourcedId": "u-1", "birthDate": "2015-02-03", "sex": "female", "asian": "false"}],
    "enrollments": [
        {
            "sourcedId": "e-1",
            "class": "c-1",
            "school": "o-2",
            "user": "u-1",
            "role": "student",
            "primary": "false",
            "beginDate": "2031-01-01",
        }
    ],
    "categories": [{"sourcedId": "ca-1", "title": "Homework"}],
    "lineItems": [
        {
            "sourcedId": "li-1",
            "title": "Sheet",
            "assignDate": "2031-02-01T00:00:00.000Z",
            "dueDate": "2031-02-08T00:00:00.000Z",
            "class": "c-1",
            "category": "ca-1",
            "gradingPeriod": "s/1 é",
            "resultValueMin": 0,
            "resultValueMax": 10.5,
        }
    ],
    "results": [
        {
            "sourcedId": "re-1",
            "lineItem": "li-1",
            "student": "u-1",
            "scoreStatus": "fully graded",
            "score": 0,
            "scoreDate": "2031-02-08",
        }
    ],
}


def records(name: str) -> list[Record]:
    return [FILES[name].record({**BASE, **data}) for data in ROSTER[name]]


def body_of(name: str, number: int = 0) -> bytes:
    return records(name)[number].body


def damaged_record(name: str, old: str, new: str, number: int = 0) -> Record:
    """Return a record with `old` replaced in its body but not in its comparison keys."""
    record = records(name)[number]
    assert old.encode() in record.body
    return Record(record.key, record.body.replace(old.encode(), new.encode()), record.values)


def open_filled(url: str) -> Backend:
    store = open_store(url, COLLECTIONS)
    with store.write("default") as transaction:
        for name in ROSTER:
            transaction.put(name, records(name))
    return store


@pytest.fixture
def store() -> Iterator[Backend]:
    with open_filled("memory:") as opened:
        yield opened


def put(store: Backend, name: str, *changed: Record) -> IntegrityReport:
    with store.write("default") as transaction:
        transaction.put(name, changed)
    return check_store(store)


def test_valid_roster_has_no_problems_and_counts_active(store: Backend) -> None:
    checked = check_store(store)
    assert checked.problems == []
    assert checked.ok
    assert checked.counts == {
        "academicSessions": 1,
        "categories": 1,
        "classes": 1,
        "courses": 1,
        "demographics": 1,
        "enrollments": 1,
        "lineItems": 1,
        "orgs": 3,
        "resources": 1,
        "results": 1,
        "users": 2,
    }


def test_digests_are_equal_on_every_backend(store: Backend, tmp_path: Path) -> None:
    expected = check_store(store)
    for url in (f"sqlite:///{tmp_path}/chalk.db", f"json:///{tmp_path}/chalk"):
        with open_filled(url) as other:
            assert check_store(other) == expected


def test_empty_store_is_sound() -> None:
    with open_store("memory:", COLLECTIONS) as empty:
        report = check_store(empty)
    assert report.ok
    assert report.counts == {}


def test_timestamp_is_in_state_but_not_in_digest(store: Backend) -> None:
    before = check_store(store)
    record = records("users")[0]
    later = Record(
        record.key, with_timestamp(without_timestamp(record.body), "2031-06-01T00:00:00.000Z"), record.values
    )
    after = put(store, "users", later)
    assert after.digest == before.digest
    assert after.state_digest != before.state_digest


@pytest.mark.parametrize("name", RESOURCES)
def test_digests_include_every_served_collection(name: str, store: Backend) -> None:
    before = check_store(store)
    data = {**BASE, **ROSTER[name][0], "metadata": {"changed": "yes"}}
    after = put(store, name, FILES[name].record(data))
    assert after.ok, after.problems
    assert after.digest != before.digest
    assert after.state_digest != before.state_digest


def test_digest_depends_on_collection_of_record() -> None:
    digests = set()
    for name in ("categories", "resources"):
        with open_store("memory:", COLLECTIONS) as store:
            digests.add(put(store, name, Record("x", b'{"sourcedId":"x"}')).state_digest)
    assert len(digests) == 2


def test_counts_exclude_tombstones_and_other_tenants(store: Backend) -> None:
    with open_store("memory:", COLLECTIONS) as empty:
        assert check_store(store, "north") == check_store(empty)
    assert check_store(store).counts["orgs"] == 3


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (
            damaged_record("users", '"role":"student"', '"role":"pupil"'),
            "users 'u-1': not in canonical form: {'role': ",
        ),
        (
            damaged_record("users", '"true"', "true"),
            "users 'u-1': not in canonical form: the same values are stored differently",
        ),
        (damaged_record("users", "u-1", "u-9"), "users 'u-1': the sourcedId of the record is 'u-9'"),
        (damaged_record("users", '"agents"', '"agent"'), "users 'u-1': not in canonical form: {'agent': "),
        (damaged_record("users", "{", "{ "), "users 'u-1': not in canonical form: the same values"),
        (
            damaged_record("users", '"href":"\\/orgs', '"href":"/orgs'),
            "users 'u-1': not in canonical form: the same values",
        ),
        (damaged_record("users", "orgs/o-2", "orgs/o-3"), "users 'u-1': not in canonical form: the same values"),
        (damaged_record("users", '"type":"org"', '"type":"school"'), "users 'u-1': not in canonical form: {'orgs': "),
        (damaged_record("users", '"dateLastModified":"2031-05-02T08:00:00.000Z",', ""), "dateLastModified missing"),
        (damaged_record("users", '"status":"active",', ""), "users 'u-1': not in canonical form: status missing"),
        (
            damaged_record("users", "2031-05-02T08", "2031-05-02T25"),
            "users 'u-1': not in canonical form: {'dateLastModified'",
        ),
        (damaged_record("users", '"username":"u1",', '"username":"",'), "users 'u-1': not in canonical form"),
        (damaged_record("users", '"username":"u1",', '"username":null,'), "users 'u-1': not in canonical form"),
        (damaged_record("users", "}", ""), "users 'u-1': not JSON: "),
        (Record("u-1", b"[]"), "users 'u-1': not in canonical form"),
        (Record("u-1", b"7"), "users 'u-1': not in canonical form"),
    ],
)
def test_record_not_in_canonical_form_is_a_problem(record: Record, problem: str, store: Backend) -> None:
    checked = put(store, "users", record)
    assert not checked.ok
    assert any(problem in text for text in checked.problems), checked.problems


@pytest.mark.parametrize(
    ("name", "key", "problem"),
    [
        ("users", "u-2", "users 'u-1': agents refers to 'u-2' of users, which does not exist"),
        ("users", "u-1", "demographics 'u-1': it belongs to 'u-1' of users, which does not exist"),
        ("users", "u-1", "enrollments 'e-1': user refers to 'u-1' of users, which does not exist"),
        ("academicSessions", "s/1 é", "classes 'c-1': terms refers to 's/1 é' of academicSessions,"),
        ("orgs", "o-3", "orgs 'o-1': children refers to 'o-3' of orgs, which does not exist"),
        ("resources", "r-1", "courseResources 'cr-1': resource refers to 'r-1' of resources, which does not exist"),
        ("lineItems", "li-1", "results 're-1': lineItem refers to 'li-1' of lineItems, which does not exist"),
    ],
)
def test_reference_to_missing_record_is_a_problem(name: str, key: str, problem: str, store: Backend) -> None:
    with store.write("default") as transaction:
        transaction.delete(name, [key])
    assert any(text.startswith(problem) for text in check_store(store).problems)


def test_reference_to_tombstone_is_valid(store: Backend) -> None:
    checked = put(store, "users", FILES["users"].tombstone(body_of("users", 1)))
    assert checked.ok, checked.problems
    assert checked.counts["users"] == 1


@pytest.mark.parametrize(
    ("name", "changed", "problem"),
    [
        ("orgs", {"sourcedId": "o-3", "name": "South", "type": "school"}, "orgs 'o-1': children should be o-2,"),
        ("orgs", {**ROSTER["orgs"][2], **DELETED}, "orgs 'o-1': children should be o-2, according"),
        ("orgs", {**ROSTER["orgs"][3], "status": "active"}, "orgs 'o-1': children should be o-2, o-3, o-4,"),
        ("orgs", {**ROSTER["orgs"][0], "children": ["o-3", "o-2"]}, "orgs 'o-1': children should be o-2, o-3,"),
        ("courseResources", {**ROSTER["courseResources"][0], **DELETED}, "courses 'co-1': resources should be empty"),
    ],
)
def test_wrong_derived_field_is_a_problem(name: str, changed: dict[str, Any], problem: str, store: Backend) -> None:
    checked = put(store, name, FILES[name].record({**BASE, **changed}))
    assert [text for text in checked.problems if text.startswith(problem)], checked.problems


def test_report_lists_a_hundred_problems_and_counts_the_rest(store: Backend) -> None:
    checked = put(store, "users", *(Record(f"x{number}", b"{}") for number in range(250)))
    assert len(checked.problems) == 101
    assert checked.problems[-1] == "and 150 more problems"


def test_problems_include_those_of_the_backend(tmp_path: Path) -> None:
    with open_filled(f"json:///{tmp_path}/chalk"):
        pass
    [file] = (tmp_path / "chalk").glob("**/users*.json*")
    file.write_bytes(file.read_bytes().replace(b"u-1", b"u-X"))
    with open_store(f"json:///{tmp_path}/chalk", COLLECTIONS) as store:
        assert not check_store(store).ok


@pytest.mark.slow
def test_check_uses_constant_memory(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        with open_filled(f"sqlite:///{tmp_path}/{count}.db") as store:
            data = {**BASE, **ROSTER["enrollments"][0]}
            more = (FILES["enrollments"].record({**data, "sourcedId": f"x{number}"}) for number in range(count))
            with store.write("default") as transaction:
                transaction.put("enrollments", more)
            tracemalloc.start()
            assert check_store(store).ok
            peak_bytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return peak_bytes

    assert peak(9000) < 1.5 * peak(3000)


@pytest.mark.slow
def test_check_holds_few_large_records(tmp_path: Path) -> None:
    count, size = 60, 1_000_000
    with open_filled(f"sqlite:///{tmp_path}/large.db") as store:
        resources = ({**BASE, "sourcedId": f"x{n}", "vendorResourceId": "v", "title": "x" * size} for n in range(count))
        with store.write("default") as transaction:
            transaction.put("resources", map(FILES["resources"].record, resources))
        tracemalloc.start()
        assert check_store(store).ok
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < count * size


@pytest.mark.parametrize("name", ROSTER)
def test_is_certain_accepts_every_valid_record(name: str) -> None:
    form = CanonicalForm(FILES[name])
    for record in records(name):
        assert form.problem(record.body) is None
        is_certain = form.is_certainly_canonical(record.body, orjson.loads(record.body))
        # A metadata member `href` looks like that of a reference and needs the full comparison.
        assert is_certain or b'"metadata":{"a"' in record.body


ALTERNATIVE_VALUES: list[Any] = [
    None, "", "x", " x", "true", "TRUE", "2031", "2031-01-01", "2031-01-01T00:00:00Z", "2031-01-01T00:00:00.000Z",
    "active", "student", 0, -0.0, 1.0, 87.5, True, [], [""], ["x"], [{}], {}, {"x": 1}, {"sourcedId": "o-2"},
    [{"type": "a", "identifier": "b"}], [{"identifier": "b", "type": "a"}], "nul\0", "a" * 256,
    {"href": "/orgs/o-2", "sourcedId": "o-2", "type": "org"}, {"sourcedId": "o-2", "type": "org", "href": "/orgs/o-2"},
]  # fmt: skip


@pytest.mark.parametrize("name", ROSTER)
def test_is_certain_never_accepts_noncanonical_bodies(name: str) -> None:
    form, certain_count = CanonicalForm(FILES[name]), 0
    for body in body_variants(name):
        is_certain = form.is_certainly_canonical(body, orjson.loads(body))
        certain_count += is_certain
        assert not is_certain or form.problem(body) is None, body
    assert certain_count


def body_variants(name: str) -> Iterator[bytes]:
    """Yield correctly encoded bodies with each field replaced, removed, moved to the end, or added."""
    for record in records(name):
        data = orjson.loads(record.body)
        for element in [*FILES[name].fields, "unknown"]:
            without = {key: value for key, value in data.items() if key != element}
            for value in [*ALTERNATIVE_VALUES, data.get(element, "x")]:
                for changed in (data | {element: value}, without, without | {element: value}):
                    yield orjson.dumps(changed).replace(b'"href":"/', b'"href":"\\/')


def test_deeply_nested_metadata_is_a_problem(store: Backend) -> None:
    deep = "[" * (sys.getrecursionlimit() + 100) + "]" * (sys.getrecursionlimit() + 100)
    checked = put(store, "users", damaged_record("users", '"41"', deep))
    assert not checked.ok
