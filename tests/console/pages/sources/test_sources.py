"""Pages of sources: list, addition, change, sync and removal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from markupsafe import escape

from chalk_flask.audit.events import read_events
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.sources import Source, SourceChange, SourceRequest, SourceStore
from chalk_flask.times import utc_now
from tests.support.console.client import Console, links_of, visible_text
from tests.support.sources.provider import SECRET, Provider, Reply, run_provider

LIST, NEW, PAGE = "/sources", "/sources/new", "/sources/sis/overview"
EDIT, SYNC, REMOVE = "/sources/sis/edit", "/sources/sis/sync", "/sources/sis/remove"
URL = "https://sis.example.org/ims/oneroster/v1p1"
FIELDS: dict[str, Any] = {"name": "sis", "url": URL, "client_id": "chalk", "secret": SECRET}


@pytest.fixture
def owner(empty_console: Console) -> Console:
    empty_console.sign_in("owner")
    return empty_console


@pytest.fixture
def provider() -> Iterator[Provider]:
    with run_provider(5) as running:
        yield running


def store_of(console: Console) -> SourceStore:
    return SourceStore(console.services.store, SecretCipher(console.services.settings.data))


def add(console: Console, url: str = URL, **values: Any) -> Source:
    """Add the source `sis` to the tenant `default`."""
    request = SourceRequest(name="sis", url=url, auth="oauth2", secret=SECRET, client_id="chalk", **values)
    return store_of(console).add("default", request)


def source(console: Console) -> Source:
    return store_of(console).get("default", "sis")


def test_source_is_added_and_removed(owner: Console) -> None:
    assert "No sources" in visible_text(owner.get(LIST).text)
    page = owner.submit(NEW, action=LIST, schedule="at", at="2:30", page_size="200", **FIELDS)
    text = visible_text(page.text)
    assert "The source is added." in text
    assert "every day at 02:30 UTC" in text
    assert "Never synced" in text
    stored = source(owner)
    assert (stored.url, stored.client_id, stored.at, stored.page_size) == (URL, "chalk", "02:30", 200)
    assert store_of(owner).secret(stored) == SECRET
    assert "sis.example.org" in visible_text(owner.get(LIST).text)
    owner.submit(PAGE, action=REMOVE)
    assert not store_of(owner).list("default")
    owner.get(PAGE, 404)


def test_secret_is_on_no_page(owner: Console) -> None:
    add(owner)
    for path in (LIST, PAGE, EDIT):
        assert SECRET not in owner.get(path).text
    page = owner.submit(EDIT, action=EDIT, status=422, secret=SECRET, url="")
    assert SECRET not in page.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "Enter a name."),
        ({"name": "../sis"}, "Invalid name"),
        ({"url": ""}, "Enter the URL of the provider."),
        ({"url": f"{URL}?key=1"}, "must not have a query"),
        ({"client_id": ""}, "Enter the client id."),
        ({"client_id": "c" * 256}, "Field cannot be longer than 255 characters."),
        ({"secret": ""}, "Enter the secret, or the bearer token."),
        ({"secret": "s" * 4097}, "Field cannot be longer than 4096 characters."),
        ({"schedule": "at"}, "Enter the time."),
        ({"schedule": "at", "at": "24:00"}, "is not a time of day"),
        ({"full_days": "0"}, "Enter a number from 1 to 365."),
        ({"page_size": "many"}, "Nothing was changed."),
        ({"auth": "basic"}, "Nothing was changed."),
        ({"schedule": "every", "every": "7"}, "Nothing was changed."),
    ],
)
def test_invalid_source_is_explained(owner: Console, fields: dict[str, Any], message: str) -> None:
    page = owner.submit(NEW, action=LIST, status=422, **{**FIELDS, **fields})
    assert message in visible_text(page.text)
    assert not store_of(owner).list("default")


@pytest.mark.parametrize("field", ["url", "token_url"])
@pytest.mark.parametrize("url", ["http://localhost:8000/", "https://10.0.0.5/", "https://nas.local/", "https://[::1]/"])
def test_network_of_the_service_is_for_operators(url: str, field: str, owner: Console) -> None:
    page = owner.submit(NEW, action=LIST, status=422, **{**FIELDS, field: url})
    assert "Use https and a public host." in visible_text(page.text)
    assert not store_of(owner).list("default")
    owner.sign_in("owner", None)
    owner.submit(NEW, action=LIST, **{**FIELDS, field: url})
    assert len(store_of(owner).list("default")) == 1


def test_source_is_changed(owner: Console) -> None:
    me = owner.sign_in("owner")
    before = add(owner, at="02:30")
    page = owner.submit(EDIT, action=EDIT, schedule="every", every="360", full_days="3")
    assert "every 6 hours" in visible_text(page.text)
    after = source(owner)
    assert (after.every_seconds, after.at, after.full_days) == (6 * 3600, None, 3)
    assert (after.sealed, after.token_url) == (before.sealed, before.token_url)
    events = [event for event in read_events(owner.services.store, "default") if event["event"] == "source.changed"]
    assert [(event["changed"], event["by"]) for event in events] == [(["fullDays", "everySeconds", "at"], me.id)]


def test_saved_form_without_changes_changes_nothing(owner: Console) -> None:
    before = add(owner, token_url="https://login.example.org/token", full_days=30)
    owner.submit(EDIT, action=EDIT)
    assert source(owner) == before


def test_another_server_requires_the_secret(owner: Console) -> None:
    before = add(owner)
    page = owner.submit(EDIT, action=EDIT, status=422, url="https://evil.example.org/v1p1")
    assert "Enter the secret again" in visible_text(page.text)
    assert source(owner) == before
    owner.submit(EDIT, action=EDIT, url="https://new.example.org/v1p1", secret="other")
    assert store_of(owner).secret(source(owner)) == "other"
    assert source(owner).token_url == "https://new.example.org/oauth/token"


def test_bearer_token_replaces_a_client(owner: Console) -> None:
    add(owner)
    owner.submit(EDIT, action=EDIT, auth="bearer", secret="token")
    assert (source(owner).auth, source(owner).client_id, source(owner).token_url) == ("bearer", None, None)


def test_stale_form_changes_nothing(owner: Console) -> None:
    add(owner)
    form = owner.get(EDIT).text
    store_of(owner).change("default", "sis", SourceChange(at="03:00"))
    version = form.partition('name="version" type="hidden" value="')[2].partition('"')[0]
    page = owner.submit(EDIT, action=EDIT, status=409, version=version, full_days="9")
    assert "The source was changed after you opened this page" in visible_text(page.text)
    assert (source(owner).at, source(owner).full_days) == ("03:00", 7)


def test_sync_runs_as_a_job(owner: Console, provider: Provider) -> None:
    add(owner, provider.url)
    job = owner.submit(PAGE, action=SYNC)
    assert "Sync of sis" in visible_text(job.text)
    owner.services.job_worker.run_pending()
    text = visible_text(owner.get(PAGE).text)
    assert "Last sync Imported" in text
    assert "The last sync read no demographics" not in text
    [run] = [link for link in links_of(owner.get(PAGE).text) if link.startswith("/imports/run-")]
    assert "Created" in visible_text(owner.get(run).text)
    provider.requests.clear()
    owner.submit(PAGE, action=SYNC, full="y")
    owner.services.job_worker.run_pending()
    assert not any("filter" in path for path in provider.requests)


def test_failed_sync_is_explained(owner: Console, provider: Provider) -> None:
    provider.replies = lambda path, query: Reply(404)
    add(owner, provider.url)
    owner.submit(PAGE, action=SYNC)
    owner.services.job_worker.run_pending()
    text = visible_text(owner.get(PAGE).text)
    assert "The last sync has failed" in text
    assert "with the status 404" in text
    assert "1 failure since the last success" in text
    assert "Failed" in visible_text(owner.get(LIST).text)


def test_sync_without_demographics_says_so(owner: Console, provider: Provider) -> None:
    del provider.roster["demographics"]
    add(owner, provider.url)
    owner.submit(PAGE, action=SYNC)
    owner.services.job_worker.run_pending()
    page = owner.get(PAGE).text
    assert "The last sync read no demographics. Its report says why." in visible_text(page)
    [run] = [link for link in links_of(page) if link.startswith("/imports/run-")]
    assert "because the provider does not have them" in visible_text(owner.get(run).text)


def test_second_sync_of_a_tenant_leads_to_the_first(owner: Console) -> None:
    add(owner)
    store_of(owner).add("default", SourceRequest(name="other", url=URL, auth="bearer", secret="x"))
    owner.submit(PAGE, action=SYNC)
    page = owner.submit("/sources/other/overview", action="/sources/other/sync")
    assert "the sync of another source is in progress." in visible_text(page.text)
    jobs = owner.services.jobs.list_active("default")
    assert [job.package for job in jobs] == ["sis"]


def test_roles_see_their_buttons(empty_console: Console) -> None:
    add(empty_console)
    seen = {}
    for role in ("viewer", "editor", "owner"):
        empty_console.sign_in(role)
        text = empty_console.get(PAGE).text
        seen[role] = [action in text for action in (SYNC, EDIT, REMOVE)]
        assert (NEW in empty_console.get(LIST).text) == (role == "owner")
    assert seen == {"viewer": [False] * 3, "editor": [True, False, False], "owner": [True] * 3}


def test_error_and_values_are_escaped(owner: Console) -> None:
    text = '"><script>alert(1)</script>'
    store_of(owner).add("default", SourceRequest(name="sis", url=URL, auth="oauth1", secret="x", client_id=text))
    store_of(owner).record_failure("default", "sis", utc_now(), text)
    for path in (LIST, PAGE, EDIT):
        page = owner.get(path).text
        assert text not in page
    assert str(escape(text)) in owner.get(PAGE).text


def test_source_with_the_name_of_the_form_has_a_page(owner: Console) -> None:
    store_of(owner).add("default", SourceRequest(name="new", url=URL, auth="bearer", secret="x"))
    assert "Bearer token" in visible_text(owner.get("/sources/new/overview").text)
