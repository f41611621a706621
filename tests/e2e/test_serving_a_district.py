"""A district's package in, every read of the standard out: commands, a server and clients on real sockets."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.district import write_package
from tests.e2e.conftest import DEMO, ROOT, RunningService, run_command, serve

IMS, CHALK = "/ims/oneroster/v1p1", "/api/oneroster/v1p1"
ROOTS = (IMS, CHALK)


class Operation(NamedTuple):
    """A GET of the standard."""

    path: str
    kind: str
    envelope: str


OPERATIONS = [
    Operation(each["path"], each["kind"], each["envelope"])
    for each in json.loads((ROOT / "tests/data/operations.json").read_text(encoding="utf-8"))["operations"]
    if each["method"] == "GET"
]
SINGLE = [each for each in OPERATIONS if each.kind == "singleton"]
NESTED = [each for each in OPERATIONS if each.kind == "collection" and "{" in each.path]


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a file of the package that was imported."""
    with (DEMO / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def ids(path: str) -> list[str]:
    """Ids from the package for the places in a path, by which it finds something."""
    line_item, result = rows("lineItems")[0], rows("results")[0]
    klass = next(row for row in rows("classes") if row["sourcedId"] == line_item["classSourcedId"])
    taught = next(
        row for row in rows("enrollments") if row["role"] == "teacher" and row["classSourcedId"] == klass["sourcedId"]
    )
    known = {
        "schools": klass["schoolSourcedId"],
        "classes": klass["sourcedId"],
        "courses": klass["courseSourcedId"],
        "terms": klass["termSourcedIds"].split(",")[0],
        "students": result["studentSourcedId"],
        "teachers": taught["userSourcedId"],
        "users": taught["userSourcedId"],
        "lineItems": line_item["sourcedId"],
        "results": result["sourcedId"],
        "gradingPeriods": line_item["gradingPeriodSourcedId"],
        "demographics": rows("demographics")[0]["sourcedId"],
    }
    parents = re.findall(r"/(\w+)/\{\w+\}", path)
    return [known.get(parent) or rows(parent)[0]["sourcedId"] for parent in parents]


def filled(path: str, values: list[str]) -> str:
    """The path with these values in its places."""
    rest = iter(values)
    return re.sub(r"\{\w+\}", lambda _: next(rest), path)


def test_the_standard_has_55_reads() -> None:
    assert len(OPERATIONS) == 55
    assert (len(SINGLE), len(NESTED)) == (16, 23)


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.path)
def test_every_read_answers_with_its_envelope_and_finds_something(
    district: RunningService, root: str, operation: Operation
) -> None:
    values = ids(operation.path)
    answer = district.request(root + filled(operation.path, values))
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    assert list(answer.json) == [operation.envelope]
    if operation.kind == "singleton":
        assert answer.json[operation.envelope]["sourcedId"] == values[-1]
    else:
        total = int(answer.headers["X-Total-Count"])
        assert len(answer.records) == (min(total, 100) if root == IMS else total) > 0


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("operation", [*SINGLE, *NESTED], ids=lambda operation: operation.path)
def test_an_unknown_id_at_any_place_of_a_path_is_an_unknown_object(
    district: RunningService, root: str, operation: Operation
) -> None:
    values = ids(operation.path)
    for place in range(len(values)):
        wrong = [*values[:place], "nobody-has-this-id", *values[place + 1 :]]
        answer = district.request(root + filled(operation.path, wrong))
        assert (answer.status, answer.json["error"]) == (404, "unknown_object"), wrong


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.path)
def test_head_says_what_get_says_without_a_body(district: RunningService, root: str, operation: Operation) -> None:
    path = root + filled(operation.path, ids(operation.path))
    get, head = district.request(path), district.request(path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert {name: head.headers[name] for name in head.headers if name != "Date"} == {
        name: get.headers[name] for name in get.headers if name != "Date"
    }


@pytest.mark.parametrize("path", [f"{IMS}/users?limit=3", f"{CHALK}/enrollments", f"{IMS}/users/user-s-001"])
def test_a_client_that_holds_the_answer_is_told_so(district: RunningService, path: str) -> None:
    first = district.request(path)
    again = district.request(path, If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert district.request(path, If_None_Match='W/"another"').body == first.body


@pytest.mark.parametrize("path", [f"{IMS}/users", f"{CHALK}/enrollments"])
def test_a_large_answer_comes_zipped_when_that_is_asked_for(district: RunningService, path: str) -> None:
    plain, zipped = district.request(path), district.request(path, Accept_Encoding="gzip")
    assert (plain.headers.get("Content-Encoding"), zipped.headers["Content-Encoding"]) == (None, "gzip")
    assert zipped.json == plain.json
    assert len(zipped.body) < len(plain.body) / 2


def unauthorized(district: RunningService, authorization: str) -> dict[str, Any]:
    """The body of a 401, which must have all its marks."""
    answer = district.request(f"{IMS}/users", Authorization=authorization)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    return answer.json


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer nonsense", "Basic dXNlcjpwYXNz", "Bearer chk_live_" + "0" * 40]
)
def test_nobody_gets_in_without_a_token(district: RunningService, authorization: str) -> None:
    body = unauthorized(district, authorization)
    assert body["error"] == "invalid_token"
    assert body["message"] == "The bearer token is missing or invalid."
    assert body["statusInfoSet"][0]["imsx_codeMajor"] == "failure"


def test_the_scheme_of_a_token_may_be_written_in_any_case(district: RunningService) -> None:
    assert district.request(f"{IMS}/orgs", Authorization=f"bEARER {district.token}").status == 200


@pytest.mark.parametrize("path", [f"{root}{path}" for root in ROOTS for path in ("/users", "/users/user-s-001")])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_what_can_be_read_cannot_be_written(district: RunningService, path: str, method: str) -> None:
    answer = district.request(path, method)
    assert (answer.status, answer.json["error"]) == (405, "invalid_data")
    assert "GET" in answer.headers["Allow"]


def test_a_token_without_scopes_reads_everything_but_demographics(tmp_path: Path) -> None:
    run_command(tmp_path, "import", DEMO)
    token = run_command(tmp_path, "token", "create", "--label", "an app").splitlines()[0]
    with serve(tmp_path, token) as served:
        for operation in OPERATIONS:
            answer = served.request(IMS + filled(operation.path, ids(operation.path)))
            if operation.path.startswith("/demographics"):
                assert (answer.status, answer.json["error"]) == (403, "forbidden")
            else:
                assert answer.status == 200, operation


def test_one_root_gives_the_whole_collection_and_the_other_a_page(district: RunningService) -> None:
    whole, page = district.request(f"{CHALK}/enrollments"), district.request(f"{IMS}/enrollments")
    assert len(whole.records) == len(rows("enrollments")) > 100
    assert {each["sourcedId"] for each in whole.records} == {row["sourcedId"] for row in rows("enrollments")}
    assert [each["sourcedId"] for each in page.records] == [each["sourcedId"] for each in whole.records[:100]]
    assert "Link" not in whole.headers
    assert 'rel="next"' in page.headers["Link"]


def test_links_lead_through_the_whole_collection(district: RunningService) -> None:
    path, seen = f"{IMS}/users?limit=17", list[str]()
    while path:
        answer = district.request(path)
        seen += [each["sourcedId"] for each in answer.records]
        found = re.search(r'<http://127\.0\.0\.1:\d+(/[^>]+)>; rel="next"', answer.headers["Link"])
        path = found[1] if found else ""
    assert seen == sorted(row["sourcedId"] for row in rows("users"))


def test_references_lead_to_what_they_name_under_the_root_that_was_asked(district: RunningService) -> None:
    for root in ROOTS:
        for name in ("enrollments", "classes", "results"):
            record = district.request(f"{root}/{name}").records[0]
            found = [value for value in record.values() if isinstance(value, dict) and "href" in value]
            assert found
            for reference in found:
                start = f"http://127.0.0.1:{district.port}"
                assert reference["href"].startswith(start + root)
                single = district.request(reference["href"].removeprefix(start)).json
                assert single[reference["type"]]["sourcedId"] == reference["sourcedId"]


def test_a_whole_collection_of_many_megabytes_is_streamed_to_its_end(tmp_path: Path) -> None:
    write_package(2_000, tmp_path / "district.zip")
    run_command(tmp_path, "import", "district.zip")
    token = run_command(tmp_path, "token", "create", "--label", "an app").splitlines()[0]
    with serve(tmp_path, token) as served:
        whole = served.request(f"{CHALK}/enrollments")
        assert whole.headers["Transfer-Encoding"] == "chunked"
        assert len(whole.body) > 5 << 20
        found = {each["sourcedId"] for each in whole.records}
        assert len(found) == len(whole.records) == int(whole.headers["X-Total-Count"]) == 14_000
        zipped = served.request(f"{CHALK}/enrollments", Accept_Encoding="gzip")
        assert zipped.json == whole.json
        pages = (served.request(f"{CHALK}/enrollments?limit=1000&offset={offset}") for offset in range(0, 14_000, 1000))
        assert [each for page in pages for each in page.records] == whole.records


def test_a_store_in_memory_is_loaded_when_the_server_starts_and_its_token_is_told(tmp_path: Path) -> None:
    with serve(tmp_path, "", "--storage", "memory:", "--import", DEMO) as served:
        assert unauthorized(served, "")["error"] == "invalid_token"
        assert unauthorized(served, "Bearer chk_live_" + "0" * 40)["error"] == "invalid_token"
        assert len(served.request(f"{CHALK}/users").records) == len(rows("users"))
        assert served.request(f"{IMS}/demographics").status == 200
    assert not list(tmp_path.iterdir())
