"""Store of sources: what can be added, encryption, and removal."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chalk_flask.audit.events import read_events
from chalk_flask.jobs.tenant_deletion import delete_tenant
from chalk_flask.sources import SecretRequiredError, SourceChange, SourceError, SourceRequest
from chalk_flask.sources.sync import _working_folder
from chalk_flask.tenants import TenantStore
from chalk_flask.tenants.store import TenantError
from tests.sources.conftest import Puller
from tests.support.sources.provider import SECRET

URL = "https://sis.example.org/ims/oneroster/v1p1"


@pytest.mark.every_backend
def test_secret_is_stored_encrypted(puller: Puller, tmp_path: Path) -> None:
    source = puller.add(f"{URL}/")
    assert (source.url, source.token_url) == (URL, "https://sis.example.org/oauth/token")
    assert SECRET not in str(source.to_dict()) + repr(source) + source.sealed
    assert puller.sources.secret(puller.source()) == SECRET
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"url": "http://sis.example.org/v1p1"}, "must begin with https"),
        (
            {"url": "https://ada:x@sis.example.org/"},
            r"'https://\*\*\*@sis.example.org/': it must not contain a name and a",
        ),
        ({"token_url": "https://:x@sis.example.org/"}, "invalid token URL .* enter them as client id and secret"),
        ({"url": "https:///v1p1"}, "the host is missing"),
        ({"url": "sis.example.org/v1p1"}, "must begin with https"),
        ({"url": "https://sis.example.org:port/"}, "the host or the port is invalid"),
        ({"url": f"{URL}/ü"}, "a blank, a control character or one that is not ASCII"),
        ({"url": f"{URL}#a"}, "must not contain a fragment"),
        ({"url": f"{URL}/{'x' * 1000}"}, "the maximum is 1000"),
        ({"url": f"{URL}?key=1"}, "must not have a query"),
        ({"url": "ftp://sis.example.org"}, "must begin with https"),
        ({"name": "../sis"}, "invalid name"),
        ({"name": ""}, "invalid name"),
        ({"secret": ""}, "the secret must have"),
        ({"secret": "a\nb"}, "the secret must have"),
        ({"secret": "grün"}, "the secret must have"),
        ({"client_id": None}, "a client id"),
        ({"auth": "bearer"}, "has no client id"),
        ({"auth": "oauth1", "token_url": URL}, "has no token URL"),
        ({"token_url": "http://sis.example.org/token"}, "must begin with https"),
        ({"full_days": 0}, "from 1 to 365"),
        ({"page_size": 10_001}, "from 1 to 10,000 records, not 10001"),
        ({"at": "24:00"}, "'24:00' is not a time of day"),
    ],
)
def test_invalid_source_is_not_added(puller: Puller, members: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        puller.add(**{"url": URL, **members})
    assert puller.sources.list("default") == []


@pytest.mark.parametrize(
    "url",
    [
        "http://ada:p4ss@sis.example.org/",
        "https://ada:p4ss/x@sis.example.org/",
        "https://ada:p4ss#x@sis.example.org/",
        "https://ada:x@p4ss@sis.example.org/",
        "https:/ada:p4ss@sis.example.org/",
        "ada:p4ss@sis.example.org/",
        "ftp://sis.example.org/?password=p4ss",
    ],
)
def test_message_about_a_url_does_not_contain_its_password(puller: Puller, url: str) -> None:
    with pytest.raises(SourceError, match="invalid URL") as rejection:
        puller.add(url)
    assert "p4ss" not in str(rejection.value)
    assert "sis.example.org" in str(rejection.value)


@pytest.mark.parametrize("url", ["https://10.1.2.3/v1p1", "https://sis.internal:8443/v1p1", "http://127.0.0.1:1/v1p1"])
def test_private_addresses_are_allowed(puller: Puller, url: str) -> None:
    assert puller.add(url).url == url


def test_name_can_be_used_once(puller: Puller) -> None:
    puller.add(URL)
    with pytest.raises(SourceError, match="there is a source 'sis' already"):
        puller.add(URL)


def test_tenant_has_a_maximum_of_sources(puller: Puller) -> None:
    for number in range(10):
        puller.add(URL, name=f"sis-{number}")
    with pytest.raises(SourceError, match="at most 10 sources"):
        puller.add(URL)
    assert [source.name for source in puller.sources.list("default")] == [f"sis-{number}" for number in range(10)]


def test_unknown_source_and_tenant_are_errors(puller: Puller) -> None:
    with pytest.raises(SourceError, match="has no source 'sis'"):
        puller.sync()
    with pytest.raises(TenantError):
        puller.sources.add("nowhere", SourceRequest(name="sis", url=URL, auth="bearer", secret="x"))


def test_removed_source_leaves_an_audit_event(puller: Puller) -> None:
    puller.add(URL)
    puller.clock.advance(1)
    puller.sources.remove("default", "sis")
    assert puller.sources.list("default") == []
    events = [(event["event"], event["source"]) for event in read_events(puller.store, "default")]
    assert events == [("source.added", "sis"), ("source.removed", "sis")]


def test_lost_key_is_an_error_of_the_sync(puller: Puller, tmp_path: Path) -> None:
    puller.add(URL)
    (tmp_path / "data" / "secrets.key").unlink()
    with pytest.raises(SourceError, match=r"secrets\.key.* is missing"):
        puller.sync()
    assert "secrets.key" in str(puller.source().last_error)
    with pytest.raises(SourceError, match="the secret cannot be stored"):
        puller.add(URL, name="other")


def test_deleted_tenant_leaves_neither_source_nor_files(puller: Puller) -> None:
    TenantStore(puller.store).create("north")
    request = SourceRequest(name="sis", url=URL, auth="bearer", secret="x")
    puller.sources.add("north", request)
    with _working_folder(puller.settings, "north"):
        pass
    assert puller.files() == [".sync.lock"]
    delete_tenant(puller.store, puller.settings, "north")
    assert puller.files() == []
    assert list(puller.sources.list("north")) == []


def change(puller: Puller, **members: Any) -> None:
    puller.clock.advance(1)
    puller.sources.change("default", "sis", SourceChange(**members))


@pytest.mark.every_backend
def test_changed_source_keeps_its_other_values(puller: Puller) -> None:
    before = puller.add(URL, every=timedelta(hours=1), page_size=50)
    change(puller, at="2:30", full_days=3)
    after = puller.source()
    assert (after.every_seconds, after.at, after.full_days, after.page_size) == (None, "02:30", 3, 50)
    assert (after.url, after.client_id, after.sealed) == (before.url, before.client_id, before.sealed)
    change(puller, unscheduled=True)
    assert not puller.source().is_scheduled


def test_change_leaves_an_audit_event_without_values(puller: Puller) -> None:
    puller.add(URL)
    change(puller, url=f"{URL}/v2", secret="other", at="02:30")
    change(puller, at="02:30")  # as it is
    events = [event for event in read_events(puller.store, "default") if event["event"] == "source.changed"]
    assert [event["changed"] for event in events] == [["url", "at", "secret"]]
    assert "other" not in str(events)
    assert puller.sources.secret(puller.source()) == "other"


@pytest.mark.parametrize(
    "members",
    [
        {"url": "https://evil.example.org/v1p1"},
        {"url": "https://sis.example.org:8443/v1p1"},
        {"token_url": "https://evil.example.org/token"},
        {"auth": "oauth1"},
        {"auth": "bearer"},
    ],
)
def test_secret_is_required_again_for_another_server(puller: Puller, members: dict[str, Any]) -> None:
    before = puller.add(URL)
    with pytest.raises(SecretRequiredError, match="the secret is required again"):
        change(puller, **members)
    assert puller.source() == before
    change(puller, **members, secret="new")
    assert puller.sources.secret(puller.source()) == "new"


def test_default_token_url_follows_the_url(puller: Puller) -> None:
    puller.add(URL)
    change(puller, url="https://new.example.org/v1p1", secret="x")
    assert puller.source().token_url == "https://new.example.org/oauth/token"
    change(puller, token_url="https://new.example.org/token")
    change(puller, url="https://new.example.org/v2")
    assert puller.source().token_url == "https://new.example.org/token"
    change(puller, token_url="")
    assert puller.source().token_url == "https://new.example.org/oauth/token"
    change(puller, auth="bearer", secret="token")
    assert (puller.source().client_id, puller.source().token_url) == (None, None)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"url": "http://sis.example.org"}, "must begin with https"),
        ({"client_id": ""}, "a client id"),
        ({"page_size": 0}, "from 1 to 10,000"),
        ({"at": "02:30", "every": timedelta(hours=1)}, "cannot have an interval and a time of day"),
        ({"at": "02:30", "unscheduled": True}, "cannot have a schedule and none"),
        ({"secret": "a\nb"}, "the secret must have"),
    ],
)
def test_invalid_change_changes_nothing(puller: Puller, members: dict[str, Any], message: str) -> None:
    before = puller.add(URL)
    with pytest.raises(SourceError, match=message):
        change(puller, **members)
    assert puller.source() == before


def test_new_secret_replaces_one_whose_key_is_lost(puller: Puller, tmp_path: Path) -> None:
    puller.add(URL)
    (tmp_path / "data" / "secrets.key").unlink()
    change(puller, secret="new")
    assert puller.sources.secret(puller.source()) == "new"
