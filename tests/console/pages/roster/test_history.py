"""Change history on the page of a record: values, causes, pages, retention and what stays hidden."""

from __future__ import annotations

import html
import logging
from typing import Any

import pytest

from chalk_flask.oneroster.resource_type import NO_TIMESTAMP
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.changes import ChangeCause, RosterWriter
from chalk_flask.roster.changes.clock import record_with_timestamp
from chalk_flask.roster.changes.history_block import COLLECTION as HISTORY
from chalk_flask.roster.imports.history import ImportRun, store_run
from chalk_flask.tenants.store import TenantStore
from chalk_flask.times import format_timestamp, utc_now
from tests.support.console.client import Console, links_of, visible_text

RUN = "run-00000000-0000-0000-0000-000000000001"
PERSON = "/roster/users/u-2"


@pytest.fixture
def viewer(console: Console) -> Console:
    """Browser of a viewer of the tenant `default`."""
    console.sign_in("viewer")
    return console


def change(console: Console, name: str, key: str, cause: ChangeCause, time: str = "", **values: Any) -> None:
    """Change members of a stored record, as an import or a grade tool does, now or at a time."""
    resource_type = FILES[name]
    with console.services.store.write("default") as transaction:
        stored = resource_type.normalize(transaction.get_many(name, [key])[key])
        record = resource_type.record(stored | {"dateLastModified": NO_TIMESTAMP} | values)
        writer = RosterWriter(transaction, "default", 0, cause=cause)
        if time:
            writer.timestamp = time
        writer.put(name, lambda time: [record_with_timestamp(record, time)], lambda: [key])
        writer.finish()


def store_import(console: Console, time: str = "") -> None:
    """Store the import run RUN, so that it has a page. `time` is that of its start and of the records it changed."""
    now = utc_now()
    report = {"sha256": "0", "state": "committed", "dateLastModified": time or format_timestamp(now)}
    run = ImportRun(
        id=RUN,
        tenant="default",
        state="committed",
        who="pat",
        started=time or format_timestamp(now),
        options={},
        report=report,
    )
    with console.services.store.write("default") as transaction:
        store_run(transaction, run, now)


def history_text(page: str) -> str:
    """Return the visible text of the card with the change history."""
    return visible_text(page).partition("Change history")[2].partition("JSON of the API")[0]


def test_page_shows_values_before_and_after_with_their_import(viewer: Console) -> None:
    store_import(viewer)
    change(viewer, "users", "u-2", ChangeCause(run=RUN), familyName="Smith", orgs=["s-2"], phone="555-1")
    page = viewer.get(PERSON)
    text = history_text(page.text)
    assert "changed Import Orgs" in text
    assert "Family name Jones Smith Phone empty 555-1" in text
    assert "<time" in page.text.partition('id="history"')[2]
    assert f"/imports/{RUN}" in set(links_of(page.text))


def test_references_are_shown_by_name(viewer: Console) -> None:
    change(viewer, "classes", "c-1", ChangeCause(run=RUN), school="s-2")
    text = html.unescape(viewer.get("/roster/classes/c-1").text).partition('id="history"')[2]
    assert "/roster/orgs/s-2" in text.partition('id="json"')[0]


def test_import_without_a_page_is_not_linked(viewer: Console) -> None:
    change(viewer, "users", "u-2", ChangeCause(run=RUN), familyName="Smith")
    page = viewer.get(PERSON)
    assert "changed Import Family name Jones Smith" in history_text(page.text)
    assert f"/imports/{RUN}" not in set(links_of(page.text))


def test_change_of_a_grade_tool_names_its_credential(viewer: Console) -> None:
    change(viewer, "lineItems", "l-1", ChangeCause(credential="token:tok-7"), title="Sheet")
    assert "Grade tool token:tok-7 Title" in history_text(viewer.get("/roster/lineItems/l-1").text)


def test_older_changes_are_on_the_next_pages(viewer: Console) -> None:
    for number in range(25):
        change(viewer, "users", "u-2", ChangeCause(run=RUN), phone=f"555-{number:02}")
    path, found = PERSON, []
    for _ in range(3):
        page = viewer.get(path)
        text = history_text(page.text)
        found.append([number for number in range(25) if f"555-{number:02} " in text.replace("changed", " ")])
        path = next((link for link in links_of(page.text) if "before=" in link), "")
    assert [max(numbers) for numbers in found] == [24, 14, 4]
    assert path == ""
    assert "Newest changes" in text


@pytest.mark.parametrize("before", ["x", "-1", "1" * 30, "²"])
def test_invalid_page_of_the_history_shows_the_newest_changes(viewer: Console, before: str) -> None:
    change(viewer, "users", "u-2", ChangeCause(run=RUN), familyName="Smith")
    assert "Jones Smith" in history_text(viewer.get(PERSON, before=before).text)


def test_number_of_another_record_shows_no_changes(viewer: Console) -> None:
    change(viewer, "users", "u-1", ChangeCause(run=RUN), familyName="Secret")
    assert "Secret" in history_text(viewer.get("/roster/users/u-1", before="1").text)
    assert "No older changes are stored" in history_text(viewer.get(PERSON, before="1").text)


def test_changed_members_of_the_metadata_are_listed(viewer: Console) -> None:
    metadata = {"region": "South", "boards.lead": "Ada", "sizes": [1, 2]}
    change(viewer, "orgs", "s-3", ChangeCause(run=RUN), metadata=metadata)
    text = history_text(viewer.get("/roster/orgs/s-3").text)
    assert "Metadata: region North South Metadata: size 3 empty Metadata: sizes empty [ 1, 2 ]" in text
    assert "boards" not in text


def test_record_of_the_first_load_says_that_it_has_not_changed(viewer: Console) -> None:
    text = history_text(viewer.get(PERSON).text)
    assert "This record has not changed since the first load of the roster." in text
    assert "Later changes will be listed here, with the values before and after. They are kept for 365 days." in text


def test_record_of_the_first_load_names_its_import(viewer: Console) -> None:
    with viewer.services.store.read("default") as snapshot:
        time = FILES["users"].normalize(snapshot.get_many("users", ["u-2"])["u-2"])["dateLastModified"]
    store_import(viewer, time)
    text = history_text(viewer.get(PERSON).text)
    assert f"Import {RUN} created this record in the first load of the roster. It has not changed since." in text


def test_last_change_without_stored_values_is_explained(viewer: Console) -> None:
    change(viewer, "users", "u-2", ChangeCause(run=RUN), familyName="Smith")
    with viewer.services.store.write("default") as transaction:
        transaction.delete(HISTORY, list(transaction.keys(HISTORY)))
    text = history_text(viewer.get(PERSON).text)
    assert "The values before and after the last change are not stored. Changes are kept for 365 days." in text
    assert "first load of the roster. It" not in text


def test_tenant_without_history_shows_none(viewer: Console) -> None:
    change(viewer, "users", "u-2", ChangeCause(run=RUN), familyName="Smith")
    TenantStore(viewer.services.store).update("default", history_days=0)
    text = history_text(viewer.get(PERSON).text)
    assert "This tenant keeps no change history" in text
    assert "Jones" not in text


def test_expired_changes_are_not_shown(viewer: Console) -> None:
    change(viewer, "users", "u-2", ChangeCause(run=RUN), "2020-01-01T00:00:00.000Z", familyName="Lee")
    change(viewer, "users", "u-2", ChangeCause(run=RUN), familyName="Smith")
    text = history_text(viewer.get(PERSON).text)
    assert "Lee Smith" in text
    assert "Jones" not in text


def test_demographics_stay_behind_the_button(console: Console) -> None:
    TenantStore(console.services.store).update("default", demographics=True)
    console.sign_in("editor")
    change(console, "demographics", "u-1", ChangeCause(run=RUN), birthDate="2009-05-15")
    person = console.get("/roster/users/u-1")
    assert "2009-05-1" not in person.text
    page = console.submit("/roster/users/u-1", action="/demographics/u-1", status=200)
    assert "Birth date 2009-05-14 2009-05-15" in history_text(page.text)


def test_former_values_are_not_in_the_api_or_the_log(viewer: Console, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    change(viewer, "users", "u-2", ChangeCause(run=RUN), familyName="Smith")
    page = viewer.get(PERSON)
    assert "Jones" in history_text(page.text)
    assert "Jones" not in html.unescape(page.text).partition('"user": {')[2]
    assert "Jones" not in caplog.text
