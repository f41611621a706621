"""Import of a package and every read of the standard, with commands, a server and clients on real sockets."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.district import write_package
from tests.e2e.conftest import DEMO, ROOT, Response, RunningService, run_command, serve

IMS, CHALK = "/ims/oneroster/v1p1", "/api/oneroster/v1p1"
ROOTS = (IMS, CHALK)


class Operation(NamedTuple):
    """GET operation of the standard."""

    path: str
    kind: str
    envelope: str


OPERATIONS = [
    Operation(operation["path"], operation["kind"], operation["envelope"])
    for operation in json.loads((ROOT / "tests/data/operations.json").read_text(encoding="utf-8"))["operations"]
    if operation["method"] == "GET"
]
SINGLE = [operation for operation in OPERATIONS if operation.kind == "singleton"]
NESTED = [operation for operation in OPERATIONS if operation.kind == "collection" and "{" in operation.path]


def read_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a file in the imported package."""
    with (DEMO / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def example_ids(path: str) -> list[str]:
    """Return ids for the placeholders in a path for which the read finds a record."""
    line_item, result = read_rows("lineItems")[0], read_rows("results")[0]
    klass = next(row for row in read_rows("classes") if row["sourcedId"] == line_item["classSourcedId"])
    teaching = next(
        row
        for row in read_rows("enrollments")
        if row["role"] == "teacher" and row["classSourcedId"] == klass["sourcedId"]
    )
    id_by_collection = {
        "schools": klass["schoolSourcedId"],
        "classes": klass["sourcedId"],
        "courses": klass["courseSourcedId"],
        "terms": klass["termSourcedIds"].split(",")[0],
        "students": result["studentSourcedId"],
        "teachers": teaching["userSourcedId"],
        "users": teaching["userSourcedId"],
        "lineItems": line_item["sourcedId"],
        "results": result["sourcedId"],
        "gradingPeriods": line_item["gradingPeriodSourcedId"],
        "demographics": read_rows("demographics")[0]["sourcedId"],
    }
    collections = re.findall(r"/(\w+)/\{\w+\}", path)
    return [id_by_collection.get(name) or read_rows(name)[0]["sourcedId"] for name in collections]


def fill_path(path: str, ids: list[str]) -> str:
    """Return the path with these ids in its placeholders."""
    remaining = iter(ids)
    return re.sub(r"\{\w+\}", lambda _: next(remaining), path)


def test_standard_has_55_reads() -> None:
    assert len(OPERATIONS) == 55
    assert (len(SINGLE), len(NESTED)) == (16, 23)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.path)
def test_every_read_finds_records_in_its_envelope(district: RunningService, operation: Operation) -> None:
    ids = example_ids(operation.path)
    for root in ROOTS:
        response = district.request(root + fill_path(operation.path, ids))
        assert response.status == 200, response.body
        assert response.headers["Content-Type"] == "application/json"
        assert list(response.json) == [operation.envelope]
        if operation.kind == "singleton":
            assert response.json[operation.envelope]["sourcedId"] == ids[-1]
        else:
            total = int(response.headers["X-Total-Count"])
            assert len(response.records) == (min(total, 100) if root == IMS else total) > 0


def test_unknown_id_in_a_path_is_an_unknown_object(district: RunningService) -> None:
    for operation in (*SINGLE, *NESTED):
        ids = example_ids(operation.path)
        for index in range(len(ids)):
            wrong_ids = [*ids[:index], "unknown-id", *ids[index + 1 :]]
            response = district.request(IMS + fill_path(operation.path, wrong_ids))
            assert (response.status, response.json["error"]) == (404, "unknown_object"), (operation, wrong_ids)


@pytest.mark.parametrize("path", [f"{IMS}/users?limit=3", f"{CHALK}/enrollments", f"{IMS}/users/user-s-001"])
def test_head_returns_the_headers_of_get_without_a_body(district: RunningService, path: str) -> None:
    get = district.request(path, X_Request_ID="request-1")
    head = district.request(path, "HEAD", X_Request_ID="request-1")
    assert (head.status, head.body) == (200, b"")
    assert _headers_without_date(head) == _headers_without_date(get)


def _headers_without_date(response: Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items() if name != "Date"}


@pytest.mark.parametrize("path", [f"{IMS}/users?limit=3", f"{CHALK}/enrollments", f"{IMS}/users/user-s-001"])
def test_unchanged_response_is_304(district: RunningService, path: str) -> None:
    first = district.request(path)
    second = district.request(path, If_None_Match=first.headers["ETag"])
    assert (second.status, second.body) == (304, b"")
    assert second.headers["ETag"] == first.headers["ETag"]
    assert district.request(path, If_None_Match='W/"another"').body == first.body


@pytest.mark.parametrize("path", [f"{IMS}/users", f"{CHALK}/enrollments"])
def test_large_response_is_compressed_on_request(district: RunningService, path: str) -> None:
    plain, compressed = district.request(path), district.request(path, Accept_Encoding="gzip")
    assert plain.headers.get("Content-Encoding") is None
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert compressed.json == plain.json
    assert len(compressed.body) < len(plain.body) / 2


def unauthorized(district: RunningService, authorization: str) -> dict[str, Any]:
    """Return the body of a complete 401 response."""
    response = district.request(f"{IMS}/users", Authorization=authorization)
    assert response.status == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    return response.json


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer nonsense", "Basic dXNlcjpwYXNz", "Bearer chk_live_" + "0" * 40]
)
def test_request_without_a_valid_token_is_401(district: RunningService, authorization: str) -> None:
    body = unauthorized(district, authorization)
    assert body["error"] == "invalid_token"
    assert body["message"].startswith("The bearer token is missing, invalid, expired or revoked.")
    assert body["statusInfoSet"][0]["imsx_codeMajor"] == "failure"


def test_authorization_scheme_is_case_insensitive(district: RunningService) -> None:
    assert district.request(f"{IMS}/orgs", Authorization=f"bEARER {district.token}").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_read_only_path_rejects_writes(district: RunningService, method: str) -> None:
    for path in (f"{root}{path}" for root in ROOTS for path in ("/users", "/users/user-s-001")):
        response = district.request(path, method)
        assert (response.status, response.json["error"]) == (405, "invalid_data")
        assert "GET" in response.headers["Allow"]


@pytest.mark.slow
def test_token_without_scopes_reads_all_but_demographics(tmp_path: Path) -> None:
    run_command(tmp_path, "import", DEMO)
    token = run_command(tmp_path, "token", "create", "--label", "an app").splitlines()[0]
    with serve(tmp_path, token) as service:
        for operation in OPERATIONS:
            response = service.request(IMS + fill_path(operation.path, example_ids(operation.path)))
            if operation.path.startswith("/demographics"):
                assert (response.status, response.json["error"]) == (403, "forbidden")
            else:
                assert response.status == 200, operation


def test_chalk_root_returns_the_whole_collection_and_ims_a_page(district: RunningService) -> None:
    whole, page = district.request(f"{CHALK}/enrollments"), district.request(f"{IMS}/enrollments")
    expected = {row["sourcedId"] for row in read_rows("enrollments")}
    assert len(whole.records) == len(expected) > 100
    assert {record["sourcedId"] for record in whole.records} == expected
    assert [record["sourcedId"] for record in page.records] == [record["sourcedId"] for record in whole.records[:100]]
    assert "Link" not in whole.headers
    assert 'rel="next"' in page.headers["Link"]


def test_next_links_lead_through_the_whole_collection(district: RunningService) -> None:
    path, ids = f"{IMS}/users?limit=17", list[str]()
    while path:
        response = district.request(path)
        ids += [record["sourcedId"] for record in response.records]
        match = re.search(r'<http://127\.0\.0\.1:\d+(/[^>]+)>; rel="next"', response.headers["Link"])
        path = match[1] if match else ""
    assert ids == sorted(row["sourcedId"] for row in read_rows("users"))


def test_hrefs_lead_to_the_referenced_record_under_the_same_root(district: RunningService) -> None:
    base_url = f"http://127.0.0.1:{district.port}"
    for root in ROOTS:
        for name in ("enrollments", "classes", "results"):
            record = district.request(f"{root}/{name}").records[0]
            references = [value for value in record.values() if isinstance(value, dict) and "href" in value]
            assert references
            for reference in references:
                assert reference["href"].startswith(base_url + root)
                single = district.request(reference["href"].removeprefix(base_url)).json
                assert single[reference["type"]]["sourcedId"] == reference["sourcedId"]


@pytest.mark.slow
def test_collection_of_many_megabytes_is_streamed_completely(tmp_path: Path) -> None:
    write_package(2_000, tmp_path / "district.zip")
    run_command(tmp_path, "import", "district.zip")
    token = run_command(tmp_path, "token", "create", "--label", "an app").splitlines()[0]
    with serve(tmp_path, token) as service:
        whole = service.request(f"{CHALK}/enrollments")
        assert whole.headers["Transfer-Encoding"] == "chunked"
        assert len(whole.body) > 5 << 20
        ids = {record["sourcedId"] for record in whole.records}
        assert len(ids) == len(whole.records) == int(whole.headers["X-Total-Count"]) == 14_000
        compressed = service.request(f"{CHALK}/enrollments", Accept_Encoding="gzip")
        assert compressed.json == whole.json
        pages = (
            service.request(f"{CHALK}/enrollments?limit=1000&offset={offset}") for offset in range(0, 14_000, 1000)
        )
        assert [record for page in pages for record in page.records] == whole.records


def test_store_in_memory_is_loaded_at_start_and_its_token_printed(tmp_path: Path) -> None:
    with serve(tmp_path, "", "--storage", "memory:", "--import", DEMO) as service:
        assert unauthorized(service, "")["error"] == "invalid_token"
        assert unauthorized(service, "Bearer chk_live_" + "0" * 40)["error"] == "invalid_token"
        assert len(service.request(f"{CHALK}/users").records) == len(read_rows("users"))
        assert service.request(f"{IMS}/demographics").status == 200
    assert not list(tmp_path.iterdir())
