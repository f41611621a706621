"""Habits of real providers: page caps, wrong totals, changes during paging, errors, expired tokens, broken bodies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from chalk_flask.sources import SourceError
from chalk_flask.times import utc_now
from tests.sources.conftest import Puller
from tests.support.sources.provider import Provider, Reply, enrollment, run_provider, user

PATHS = ("enrollments", "users", "classes", "courses", "academicSessions", "orgs")


def check_complete(puller: Puller, provider: Provider) -> None:
    """Sync the provider, and compare the stored ids with its roster."""
    puller.add(provider.url)
    assert puller.sync().state == "committed"
    for name, records in provider.roster.items():
        assert puller.ids(name) == {each["sourcedId"] for each in records}, name


def check_failure(puller: Puller, provider: Provider, message: str) -> None:
    """Sync the provider, and expect an error that is stored, and that nothing is imported or left behind."""
    puller.add(provider.url)
    with pytest.raises(SourceError, match=message) as error:
        puller.sync()
    source = puller.source()
    assert (source.last_error, source.failures, source.last_success) == (str(error.value), 1, None)
    assert (puller.runs(), puller.ids("orgs")) == ([], set())
    assert puller.files() == [".sync.lock"]


@pytest.mark.parametrize("links", [False, True])
@pytest.mark.parametrize("page_cap", [1, 2, 7, 30])
def test_pages_smaller_than_requested_are_read_to_the_end(puller: Puller, page_cap: int, links: bool) -> None:
    with run_provider(page_cap=page_cap, links=links) as provider:
        check_complete(puller, provider)


@pytest.mark.parametrize("difference", [-7, 3])
def test_wrong_total_is_noticed_and_confirmed_by_a_second_reading(puller: Puller, difference: int) -> None:
    with run_provider(page_cap=10, total=lambda count: max(0, count + difference)) as provider:
        check_complete(puller, provider)
        assert len([path for path in provider.requests if "/users?" in path and "offset=0" in path]) == 2


@pytest.mark.parametrize("links", [False, True])
def test_missing_total_is_accepted(puller: Puller, links: bool) -> None:
    with run_provider(page_cap=10, total=lambda count: None, links=links) as provider:
        check_complete(puller, provider)


def test_total_that_is_no_number_is_ignored(puller: Puller) -> None:
    with run_provider(page_cap=10) as provider:
        provider.total = lambda count: "many"
        check_complete(puller, provider)


def test_links_without_the_last_pages_are_continued_by_offset(puller: Puller) -> None:
    with run_provider(page_cap=10, links=True) as provider:
        usual = provider.page

        def page(name: str, query: dict[str, str]) -> Reply:
            reply = usual(name, query)
            if query["offset"] != "0":
                reply.headers["Link"] = f'<{provider.url}/{name}?limit=10&offset=0>; rel="first"'
            return reply

        provider.answer = page
        check_complete(puller, provider)


def test_links_of_an_internal_host_are_not_followed_to_it(puller: Puller) -> None:
    with run_provider(page_cap=10) as provider:
        usual = provider.page

        def page(name: str, query: dict[str, str]) -> Reply:
            start = int(query.pop("after", query.get("offset", "0")))
            reply = usual(name, query | {"offset": str(start), "limit": "10"})
            if start + 10 < len(provider.roster[name]):
                reply.headers["Link"] = f'<http://internal.invalid/v1p1/{name}?after={start + 10}>; rel="next"'
            return reply

        provider.answer = page
        check_complete(puller, provider)


def test_links_that_form_a_circle_are_an_error(puller: Puller, provider: Provider) -> None:
    usual = provider.page

    def page(name: str, query: dict[str, str]) -> Reply:
        reply = usual(name, {"limit": "10", "offset": "0"})
        reply.headers["Link"] = f'<{provider.url}/{name}?cursor=a>; rel="next"'
        return reply

    provider.answer = page
    check_failure(puller, provider, "lead back to a former page")


def test_provider_that_ignores_offset_and_limit_is_read(puller: Puller) -> None:
    with run_provider(total=lambda count: None) as provider:
        usual = provider.page
        provider.answer = lambda name, query: usual(name, {"limit": "1000", "offset": "0"})
        check_complete(puller, provider)


@pytest.mark.parametrize(
    "habit", [{"accepts_sort": False}, {"max_limit": 100}, {"max_limit": 100, "accepts_sort": False}]
)
def test_rejected_parameters_are_left_out(puller: Puller, habit: dict[str, Any]) -> None:
    with run_provider(150, **habit) as provider:
        check_complete(puller, provider)


def changes_at(provider: Provider, offsets: set[int], change: Callable[[], None]) -> None:
    """Change the roster before the page of users at one of these offsets is read, once per reading."""

    def reply(path: str, query: dict[str, str]) -> None:
        if path == "users" and int(query["offset"]) in offsets:
            change()

    provider.replies = reply


@pytest.mark.parametrize("links", [False, True])
@pytest.mark.parametrize("has_total", [False, True])
def test_record_that_is_deleted_during_paging_hides_no_other(puller: Puller, has_total: bool, links: bool) -> None:
    with run_provider(page_cap=10, links=links, total=lambda count: count if has_total else None) as provider:

        def delete() -> None:
            if len(provider.roster["users"]) == 30:
                del provider.roster["users"][0], provider.roster["enrollments"][0]

        changes_at(provider, {9, 10}, delete)
        puller.add(provider.url)
        assert puller.sync().state in ("committed", "refused")  # the enrollment was read before it was deleted
        puller.sync(full=True)
        assert puller.ids("users") == {each["sourcedId"] for each in provider.roster["users"]}
        readings = [path for path in provider.requests if "/users?" in path and "offset=0" in path]
        assert len(readings) == 3


def test_record_that_is_inserted_and_one_deleted_during_paging_are_noticed(puller: Puller) -> None:
    with run_provider(page_cap=10, links=True) as provider:
        provider.roster["enrollments"] = [enrollment(20)]

        def move() -> None:
            if provider.roster["users"][0]["sourcedId"] == "u-000":
                del provider.roster["users"][0]
                provider.roster["users"].append(user(80))

        changes_at(provider, {9, 10}, move)
        check_complete(puller, provider)


def test_record_that_is_inserted_during_paging_is_merged(puller: Puller) -> None:
    with run_provider(page_cap=10) as provider:

        def insert() -> None:
            if len(provider.roster["users"]) == 30:
                provider.roster["users"].insert(0, user(0, sourcedId="a-first"))

        changes_at(provider, {9}, insert)
        check_complete(puller, provider)


def test_collection_that_never_stands_still_is_an_error(puller: Puller) -> None:
    with run_provider(page_cap=10) as provider:
        numbers = iter(range(100, 200))
        changes_at(provider, {9}, lambda: provider.roster["users"].append(user(next(numbers))))
        check_failure(puller, provider, "users changed at each of 3 readings")


def test_page_that_loses_a_record_once_is_noticed(puller: Puller) -> None:
    with run_provider(page_cap=10) as provider:
        usual = provider.page
        lost: list[str] = []

        def page(name: str, query: dict[str, str]) -> Reply:
            reply = usual(name, query)
            if (name, query["offset"], lost) == ("users", "9", []):
                lost.append(name)
                records = json.loads(reply.body)["users"]
                reply = replace(reply, body=json.dumps({"users": records[:5] + records[6:]}).encode())
            return reply

        provider.answer = page
        check_complete(puller, provider)


def test_latest_version_of_a_repeated_record_stays(puller: Puller, provider: Provider) -> None:
    newer = {"givenName": "New", "dateLastModified": "2026-08-21T00:00:00.000Z"}
    provider.roster["users"] += [
        user(1, **newer),
        user(2, givenName="Old", dateLastModified="2020-01-01T00:00:00.000Z"),
    ]
    provider.accepts_sort = False
    check_complete(puller, provider)
    users = puller.records("users")
    assert (users["u-001"]["givenName"], users["u-002"]["givenName"]) == ("New", "Grace2")


@pytest.mark.parametrize(("name", "status"), [*((name, 404) for name in PATHS), ("users", 501), ("users", 403)])
def test_missing_required_collection_is_an_error(puller: Puller, provider: Provider, name: str, status: int) -> None:
    provider.replies = lambda path, query: Reply(status) if path == name else None
    check_failure(puller, provider, f"answers a request of {name} with the status {status}")


def failing(times: int, reply: Reply) -> Callable[[str, dict[str, str]], Reply | None]:
    """Return replies with which every request of users fails so often."""
    left = [reply] * times
    return lambda path, query: left.pop() if path == "users" and left else None


@pytest.mark.parametrize("status", [429, 500, 503])
def test_failed_request_is_repeated_with_growing_pauses(puller: Puller, provider: Provider, status: int) -> None:
    provider.replies = failing(3, Reply(status))
    check_complete(puller, provider)
    assert puller.pauses == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("is_date", [False, True])
def test_retry_after_is_obeyed(puller: Puller, provider: Provider, is_date: bool) -> None:
    value = format_datetime(utc_now() + timedelta(seconds=30), usegmt=True) if is_date else "30"
    provider.replies = failing(1, Reply(429, headers={"Retry-After": value}))
    check_complete(puller, provider)
    assert len(puller.pauses) == 1
    assert 25 < puller.pauses[0] <= 30


def test_provider_that_asks_for_a_very_long_pause_is_given_up(puller: Puller, provider: Provider) -> None:
    provider.replies = failing(1, Reply(503, headers={"Retry-After": "86400"}))
    check_failure(puller, provider, "requires longer pauses than a sync allows, the last one because the status is 503")
    assert puller.pauses == []


def test_provider_that_always_fails_is_given_up(puller: Puller, provider: Provider) -> None:
    provider.replies = failing(99, Reply(500, b"Grace Hopper"))
    check_failure(puller, provider, f"GET 127.0.0.1:{provider.port}/ims/oneroster/v1p1/users failed 6 times")
    assert len(puller.pauses) == 5


def test_token_that_expires_meanwhile_is_replaced_once(puller: Puller) -> None:
    with run_provider(page_cap=10) as provider:

        def expire(path: str, query: dict[str, str]) -> None:
            if (path, query.get("offset"), provider.issued) == ("users", "9", 1):
                provider.tokens.clear()

        provider.replies = expire
        check_complete(puller, provider)
        assert provider.issued == 2


def test_credential_that_is_rejected_is_an_error(puller: Puller, provider: Provider) -> None:
    provider.replies = lambda path, query: Reply(401)
    check_failure(puller, provider, "the credential is invalid or expired")
    assert provider.issued == 2
    assert "public_url" not in str(puller.source().last_error)


def test_closed_connection_is_opened_again(puller: Puller, provider: Provider) -> None:
    provider.replies = lambda path, query: (
        Reply(200, json.dumps({"orgs": provider.roster["orgs"]}).encode(), {"Connection": "close"})
        if (path, query.get("offset")) == ("orgs", "0")
        else None
    )
    check_complete(puller, provider)


def test_body_that_ends_too_early_is_requested_again(puller: Puller, provider: Provider) -> None:
    provider.replies = failing(1, Reply(200, b'{"users": [', {"Content-Length": "5000", "Connection": "close"}))
    check_complete(puller, provider)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>Grace Hopper</html>", "with a body that is not JSON"),
        (b'{"people": []}', "without a member 'users'"),
        (b"", "with a body that is not JSON"),
        (b"\xff\xfe", "with a body that is not JSON"),
        (b'{"users": ' + b"[" * 100_000, "with a body that is not JSON"),
    ],
    ids=["html", "member", "empty", "bytes", "deep"],
)
def test_body_of_another_form_is_an_error(puller: Puller, provider: Provider, body: bytes, message: str) -> None:
    provider.replies = failing(1, Reply(200, body))
    check_failure(puller, provider, message)


@pytest.mark.parametrize("name", ["org", "orgs", None])
def test_body_with_a_single_object_is_accepted(puller: Puller, provider: Provider, name: str | None) -> None:
    single = {**provider.roster["orgs"][0], "type": "school", "sourcedId": "s-1"}
    provider.roster["orgs"] = [single]
    provider.roster["courses"][0]["org"] = {"sourcedId": "s-1"}
    body = json.dumps({name: single} if name else single).encode()
    provider.replies = lambda path, query: Reply(200, body) if (path, query.get("offset")) == ("orgs", "0") else None
    check_complete(puller, provider)


def test_body_that_is_too_large_is_an_error(puller: Puller, provider: Provider) -> None:
    puller.limits = replace(puller.limits, max_body_bytes=1 << 20)
    provider.replies = failing(1, Reply(200, b'{"users": []}' + b" " * (2 << 20)))
    check_failure(puller, provider, "users is larger than 1 MiB")


def test_body_that_arrives_slowly_is_an_error(puller: Puller, provider: Provider) -> None:
    puller.limits = replace(puller.limits, response_seconds=0.2, max_attempts=2)
    provider.replies = failing(9, Reply(200, b'{"users": []}' * 9, drip_seconds=0.05))
    check_failure(puller, provider, "the provider does not answer in time")


def test_silent_provider_is_an_error(puller: Puller, provider: Provider) -> None:
    puller.limits = replace(puller.limits, read_timeout_seconds=0.1, max_attempts=2)
    provider.replies = failing(9, Reply(200, b'{"users": []}', drip_seconds=0.3))
    check_failure(puller, provider, "the provider does not answer in time")


def test_sync_ends_after_its_maximum_duration(puller: Puller) -> None:
    puller.limits = replace(puller.limits, sync_seconds=0.2)
    with run_provider(page_cap=2) as provider:
        usual = provider.page

        def page(name: str, query: dict[str, str]) -> Reply:
            return replace(usual(name, query), drip_seconds=0.0001)

        provider.answer = page
        puller.add(provider.url)
        with pytest.raises(SourceError, match=r"in time|longer than|too long"):
            puller.sync()


def test_redirect_within_the_provider_is_followed(puller: Puller, provider: Provider) -> None:
    provider.roster["people"] = provider.roster["users"]

    def reply(path: str, query: dict[str, str]) -> Reply | None:
        if path == "users":
            offset = query["offset"]
            return Reply(307, headers={"Location": f"moved?limit=100&offset={offset}"})
        return provider.page("users", query) if path == "moved" else None

    provider.replies = reply
    del provider.roster["people"]
    check_complete(puller, provider)


def test_redirect_to_another_host_is_an_error(puller: Puller, provider: Provider) -> None:
    location = f"http://localhost:{provider.port}/ims/oneroster/v1p1/users?token=1"
    provider.replies = failing(9, Reply(302, headers={"Location": location}))
    check_failure(puller, provider, "is redirected to another host")
    assert not any("token=1" in path for path in provider.requests)


def test_endless_redirect_is_an_error(puller: Puller, provider: Provider) -> None:
    provider.replies = lambda path, query: Reply(301, headers={"Location": path}) if path == "users" else None
    check_failure(puller, provider, "redirected more than 3 times")


def test_unreachable_provider_is_an_error(puller: Puller) -> None:
    with run_provider() as provider:
        pass
    check_failure(puller, provider, r"the connection failed \(Connection refused\)")
