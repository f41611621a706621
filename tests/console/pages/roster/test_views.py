"""Roster browser: lists with search, filter, order and pages, and pages of single records."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.console.pages.roster.catalog import COLLECTIONS, label_of
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports.history import ImportRun, store_run
from chalk_flask.times import format_timestamp
from tests.conftest import services_of
from tests.support.console.api_paths import record_api_paths
from tests.support.console.client import Console, links_of, visible_text
from tests.support.roster_writes import write_rows
from tests.support.small_roster import COLLECTIONS as EXPECTED_IDS
from tests.support.small_roster import LAST_MODIFIED, SINGLES, class_, fill, user

BROWSED = [name for name in COLLECTIONS if name != "demographics"]


@pytest.fixture
def viewer(console: Console) -> Console:
    """Browser of a viewer of the tenant `default`."""
    console.sign_in("viewer")
    return console


def put(console: Console, collection: str, *rows: dict[str, object]) -> None:
    with console.services.store.write("default") as transaction:
        transaction.put(collection, [FILES[collection].record(row) for row in rows])


def listed_ids(text: str) -> list[str]:
    """Return the ids in the rows of a list, in their order."""
    return [html.unescape(found) for found in re.findall(r'<code translate="no">([^<]*)</code>', text)]


def test_index_counts_every_collection(viewer: Console) -> None:
    text = visible_text(viewer.get("/roster").text)
    assert "Users 9 All people" in text
    assert "Line items 3 Pieces of graded work" in text
    assert "Demographics" not in text


def test_index_shows_demographics_to_editors(console: Console) -> None:
    console.sign_in("editor")
    page = console.get("/roster")
    assert "/roster/demographics" in set(links_of(page.text))
    assert re.search("Demographics . Sensitive data", visible_text(page.text))


def test_list_shows_every_record_with_its_page(viewer: Console) -> None:
    for name in BROWSED:
        page = viewer.get(f"/roster/{name}")
        ids = EXPECTED_IDS[f"/{name}"].split()
        assert sorted(listed_ids(page.text)) == ids, name
        resource_type = COLLECTIONS[name].resource_type.name
        assert {f"/roster/{resource_type}/{key}" for key in ids} <= set(links_of(page.text))


def test_record_has_a_page_with_fields_and_json(viewer: Console) -> None:
    for path, key in SINGLES.items():
        if not path.startswith("/demographics"):
            page = viewer.get(f"/roster{path}")
            assert f'"sourcedId": "{key}"' in html.unescape(page.text)
            assert f"http://localhost/ims/oneroster/v1p1{path}" in html.unescape(page.text)


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/roster/users/u-1", "Users: u-1"),
        ("/roster/students/u-1/classes", "Classes of u-1"),
        ("/roster/classes/c-1", "Classes: c-1"),
    ],
)
def test_title_has_the_id_and_no_name_of_a_person(viewer: Console, path: str, title: str) -> None:
    assert f"<title>{title} · Chalk Flask</title>" in viewer.get(path).text


def test_search_finds_people_by_name_and_address(viewer: Console) -> None:
    expected = {"o'brien": ["u-1", "u-6"], "ada o'b": ["u-1"], "Jones, bob": ["u-2"], "u-7@": ["u-7"], "zzz": []}
    found = {text: listed_ids(viewer.search("/roster/users", q=text).text) for text in expected}
    assert found == expected


def test_search_and_filter_are_combined(viewer: Console) -> None:
    page = viewer.search("/roster/users", q="jones", filter="role='teacher'")
    assert listed_ids(page.text) == ["u-4"]
    assert "familyName~'jones' AND role='teacher'" in html.unescape(page.text)


def test_search_for_an_id_links_the_record(viewer: Console) -> None:
    page = viewer.search("/roster/classes", q="c-3")
    assert "A record has this id: Class c-3" in visible_text(page.text)


def test_invalid_filter_shows_the_message_of_the_api(viewer: Console) -> None:
    messages = {
        "shoeSize='42'": "Unknown filter field: shoeSize",
        "familyName='x": "does not end with a single quote",
        "role='student' AND role='x' AND role='y'": "is a third clause",
        "dateLastModified>'yesterday'": "write YYYY-MM-DD",
    }
    for text, message in messages.items():
        page = viewer.search("/roster/users", 422, filter=text)
        assert message in visible_text(page.text)
        assert f'name="filter" value="{text}"' in html.unescape(page.text)


def test_labels_keep_the_capitals_of_names() -> None:
    assert label_of("blackOrAfricanAmerican") == "Black or African American"
    assert label_of("familyName") == "Family name"


def test_midnight_is_shown_as_its_date(viewer: Console) -> None:
    assert "2023-10-09 " in visible_text(viewer.get("/roster/lineItems").text)
    fields = visible_text(viewer.get("/roster/lineItems/l-1").text).partition("JSON of the API")[0]
    assert "Due date 2023-10-09" in fields
    assert "T00:00:00" not in fields


def test_filter_shows_deleted_gradebook_records(viewer: Console) -> None:
    page = viewer.search("/roster/lineItems", filter="status='tobedeleted'")
    assert listed_ids(page.text) == ["l-3"]
    assert "deleted" in visible_text(viewer.get("/roster/lineItems/l-3").text)


def test_column_sorts_in_both_directions(viewer: Console) -> None:
    page = viewer.search("/roster/users?sort=familyName&orderBy=desc", filter="status='active'")
    assert listed_ids(page.text)[:3] == ["u-7", "u-9", "u-1"]
    assert 'aria-sort="descending"' in page.text
    turned = next(link for link in links_of(page.text) if "sort=familyName" in link and "orderBy=asc" in link)
    assert "search=" in turned
    assert listed_ids(viewer.get(turned).text)[-1] == "u-7"


def test_large_collection_has_no_links_to_expensive_lists(viewer: Console) -> None:
    page = viewer.get("/roster/enrollments")
    found = {name for link in links_of(page.text) for name in re.findall("sort=([A-Za-z]+)", link)}
    assert found == {"sourcedId"}
    assert "Status of the records" not in page.text
    for path in ("/roster/users", "/roster/schools/s-1/enrollments"):
        assert "Status of the records" in viewer.get(path).text


def test_list_reads_the_names_of_all_references_at_once(viewer: Console, console_app: Flask) -> None:
    with record_api_paths(console_app) as paths:
        page = viewer.get("/roster/enrollments")
    assert paths == ["enrollments", "users", "classes", "orgs"]
    assert "Ada O'Brien student Class c-1 school s-1" in visible_text(page.text)


def test_long_list_has_pages(viewer: Console) -> None:
    put(viewer, "users", *(user(f"p-{n:03}", "student", "A", "B", ["s-1"]) for n in range(60)))
    page = viewer.search("/roster/students", filter="familyName='B'")
    assert "1–25 of 60 records" in visible_text(page.text)
    following = next(link for link in links_of(page.text) if "offset=25" in link)
    second = viewer.get(following)
    assert listed_ids(second.text)[0] == "p-025"
    assert "26–50 of 60" in visible_text(second.text)
    assert "No records" in visible_text(viewer.get("/roster/students", offset="9999").text)


def test_list_respects_the_maximum_limit_of_the_service() -> None:
    app = create_app(storage="memory:", max_limit=3)
    fill(services_of(app).store)
    console = Console(app)
    console.sign_in("viewer")
    assert "1–3 of 9 records" in visible_text(console.get("/roster/users").text)
    assert "Students (2)" in visible_text(console.get("/roster/classes/c-1").text)
    services_of(app).store.close()


def test_references_show_names_and_missing_records_their_id(viewer: Console) -> None:
    put(viewer, "classes", class_("c-9", "k-9", "s-1", ["t-1", "t-9"]))
    text = visible_text(viewer.get("/roster/classes/c-9").text)
    assert "Course k-9 missing" in text
    assert "Terms term t-1 , t-9 missing" in text
    assert "School school s-1" in text
    page = viewer.search("/roster/enrollments", filter="class='c-3'")
    assert "Sport" not in visible_text(page.text)
    assert "Çelik Müller" in visible_text(page.text)


def test_reference_to_a_tombstone_is_marked(viewer: Console) -> None:
    assert "Course Sport deleted" in visible_text(viewer.get("/roster/classes/c-3").text)


def test_person_page_shows_classes_agents_and_results(viewer: Console) -> None:
    text = visible_text(viewer.get("/roster/users/u-1").text)
    for part in ("Classes (2)", "Enrollments (3)", "Results (2)", "Guardian or other agent of (1)"):
        assert part in text
    assert "Agents, such as guardians Fay O'Brien" in text
    assert "User ids LDAP: ada@north, SIS: 77" in text
    assert "Show demographics" not in text


def test_class_page_shows_people_and_line_items(viewer: Console) -> None:
    page = viewer.get("/roster/classes/c-1")
    text = visible_text(page.text)
    for part in ("Teachers (1)", "Students (2)", "Line items (2)", "Enrollments (3)"):
        assert part in text
    assert {"/roster/users/u-1", "/roster/users/u-4", "/roster/courses/k-1"} <= set(links_of(page.text))


def test_deleted_enrollments_are_counted_on_the_whole_list_only(viewer: Console) -> None:
    page = viewer.get("/roster/classes/c-1")
    part = page.text.partition('id="part-5"')[2].partition("</section>")[0]
    assert "1 deleted record is not counted. Show all 4" in visible_text(part)
    assert "tombstone" not in part
    link = next(link for link in links_of(part) if link.startswith("/roster/enrollments?"))
    assert listed_ids(viewer.get(link).text) == ["e-1", "e-2", "e-3", "e-4"]


def test_school_page_counts_people_and_links_its_parent(viewer: Console) -> None:
    page = viewer.get("/roster/orgs/s-1")
    text = visible_text(page.text)
    for part in ("Students (3)", "Teachers (1)", "All people (6)", "Classes (2)"):
        assert part in text
    assert "/roster/orgs/d-1" in set(links_of(page.text))


def test_list_below_a_record_is_complete(viewer: Console) -> None:
    put(viewer, "users", *(user(f"p-{n:03}", "student", "A", "B", ["s-3"]) for n in range(12)))
    page = viewer.get("/roster/orgs/s-3")
    link = next(link for link in links_of(page.text) if link.startswith("/roster/students?"))
    assert len(listed_ids(viewer.get(link).text)) == 12
    nested = viewer.get("/roster/classes/c-1/students")
    assert listed_ids(nested.text) == ["u-1", "u-2"]
    assert "Students of Class c-1" in visible_text(nested.text)


def test_unknown_collection_or_record_is_not_found(viewer: Console) -> None:
    for path in (
        *("/roster/unknown", "/roster/users/unknown", "/roster/unknown/u-1", "/roster/classes/c-1/unknown"),
        *("/roster/classes/unknown/students", "/roster/students/u-4", "/roster/courseResources"),
    ):
        viewer.get(path, 404)


def test_records_of_other_tenants_are_not_found(console: Console) -> None:
    console.sign_in("owner", "west")
    console.get("/roster/users/u-1", 404)
    assert listed_ids(console.get("/roster/users").text) == []


def test_unusual_id_has_a_page(viewer: Console) -> None:
    keys = ["a/b", "a b", "a+b", "50%", "数学", "a?b#c", "<a>", "a'b"]
    put(viewer, "users", *(user(key, "student", "Odd", "Id", ["s-1"], username="odd") for key in keys))
    page = viewer.search("/roster/users", filter="username='odd'")
    found = set(links_of(page.text))
    for key in keys:
        link = f"/roster/users/{quote(key, safe=chr(39) + '+')}"
        assert link in found
        assert "Odd Id" in visible_text(viewer.get(link).text)


def test_history_names_the_sequence_number(viewer: Console, console_app: Flask) -> None:
    assert "none since the first load" in visible_text(viewer.get("/roster/orgs/s-1").text)
    write_rows(console_app, {"orgs": [{"sourcedId": "s-1", "status": "active", "name": "North", "type": "school"}]})
    text = visible_text(viewer.get("/roster/orgs/s-1").text)
    assert re.search(r"Sequence number [0-9]+", text)


def test_history_links_the_import_that_made_the_change(viewer: Console) -> None:
    report: dict[str, Any] = {"sha256": None, "dateLastModified": LAST_MODIFIED, "warnings": []}
    started = datetime(2024, 3, 1, tzinfo=UTC)
    run = ImportRun(
        id="run-7",
        tenant="default",
        state="committed",
        who="pat",
        started=format_timestamp(started),
        options={},
        report=report,
    )
    with viewer.services.store.write("default") as transaction:
        store_run(transaction, run, started)
    assert "/imports/run-7" in set(links_of(viewer.get("/roster/users/u-1").text))
    assert "/imports/run-7" not in set(links_of(viewer.get("/roster/users/u-8").text))


def test_links_of_demographics_lead_to_the_person(console: Console) -> None:
    console.sign_in("editor")
    response = console.get("/roster/demographics/u-1", 302)
    assert response.headers["Location"] == "/roster/users/u-1"


def test_pages_are_small(viewer: Console) -> None:
    people = [user(f"{n:08}-aaaa-bbbb-cccc-ddddeeeeffff", "student", "A" * 30, "B" * 30, ["s-1"]) for n in range(40)]
    put(viewer, "users", *people)
    pages = (
        viewer.get("/roster"),
        viewer.search("/roster/users", filter="givenName~'AAA'"),
        viewer.get("/roster/orgs/s-1"),
    )
    for page in pages:
        assert len(page.data) < 30_000, page.request.path
