"""Kinds of reads for the server loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from chalk_flask import create_app
from chalk_flask.api.reads.request_kinds import MAX_QUERY_LENGTH, classify_read, request_classifier
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (f"{IMS}/users/u-1", ""),
        (f"{IMS}/users", ""),
        (f"{IMS}/users", "limit=200&offset=90000"),
        (f"{IMS}/classes/c-1/students", "limit=57"),
        (f"{IMS}/schools/s-1/classes/c-1/students", "filter=a"),
        (f"{CHALK}/users", "limit=5"),
    ],
)
def test_objects_and_small_pages_have_a_kind(path: str, query: str) -> None:
    assert classify_read("GET", path, query)
    assert classify_read("HEAD", path, query) == classify_read("GET", path, query)


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("PUT", f"{IMS}/lineItems/l-1", ""),
        ("DELETE", f"{IMS}/lineItems/l-1", ""),
        ("GET", f"{CHALK}/users", ""),
        ("GET", f"{CHALK}/users", "filter=a"),
        ("GET", f"{IMS}/users", "limit=201"),
        ("GET", f"{IMS}/users", "limit=99999999999999999999"),
        ("GET", f"{IMS}/users", "limit=0"),
        ("GET", f"{IMS}/users", "limit=x"),
        ("GET", f"{IMS}/users", "limit=²"),
        ("GET", f"{IMS}/users", f"filter={'x' * MAX_QUERY_LENGTH}"),
        ("GET", f"{IMS}/nothing", ""),
        ("GET", IMS, ""),
        ("GET", f"{CHALK}/changes", ""),
        ("GET", "/admin/users/u-1", ""),
        ("GET", "/metrics", ""),
        ("GET", "/", ""),
        ("GET", "", ""),
    ],
)
def test_other_requests_have_none(method: str, path: str, query: str) -> None:
    assert classify_read(method, path, query) == ""


def test_kind_does_not_depend_on_ids_and_paging() -> None:
    def kinds(*requests: tuple[str, str]) -> set[str]:
        return {classify_read("GET", f"{IMS}/{path}", query) for path, query in requests}

    assert len(kinds(("users/u-1", ""), ("users/u-2", ""))) == 1
    assert len(kinds(("users", "limit=5"), ("users", "offset=7&limit=9"), ("users", ""))) == 1
    assert len(kinds(("classes/c-1/students", ""), ("classes/c-2/students", "limit=7"))) == 1
    assert len(kinds(("users/u-1", ""), ("users", ""), ("orgs", ""), ("users", "sort=role"), ("users", "sort=x"))) == 5


@pytest.mark.parametrize(
    ("storage", "settings", "is_used"),
    [
        ("sqlite:///{}/chalk.db", {}, True),
        ("sqlite:///{}/chalk.db", {"rate_limit_token": "5/minute"}, False),
        ("sqlite:///{}/chalk.db", {"rate_limit_address": "5/minute"}, False),
        ("sqlite:///{}/chalk.db", {"log_requests": True}, False),
        ("json:///{}/store", {}, False),
        ("memory:", {}, False),
    ],
)
def test_requests_that_may_wait_run_in_threads(
    tmp_path: Path, storage: str, settings: dict[str, object], is_used: bool
) -> None:
    app = create_app(storage=storage.format(tmp_path), data=str(tmp_path / "data"), **settings)
    assert (request_classifier(services_of(app)) is not None) == is_used
    services_of(app).access_log.close()
    services_of(app).store.close()
