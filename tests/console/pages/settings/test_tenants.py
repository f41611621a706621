"""Page `/tenants` of operators: list, select, create, and delete with typed confirmation."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from chalk_flask.tenants.store import TenantStore
from tests.support.console.client import Console, find_form, visible_text
from tests.support.console.imports import package_bytes
from tests.support.packages import PackageBuilder
from tests.support.small_roster import fill

LIST, NEW = "/tenants", "/tenants/new"


def names(console: Console) -> list[str]:
    return [tenant.name for tenant in TenantStore(console.services.store).list()]


def test_operator_selects_a_tenant(console: Console) -> None:
    console.sign_in("viewer", None)
    page = console.get(LIST).text
    assert "west" in visible_text(page)
    console.post(f"{LIST}/select", {**find_form(page, f"{LIST}/select").values.to_dict(), "name": "west"})
    page = console.get(LIST).text
    assert "You see the tenant west now." in visible_text(page)
    assert find_form(page, f"{LIST}/select").values["tenant"] == "west"


def test_unknown_tenant_is_not_selected(console: Console) -> None:
    console.sign_in("viewer", None)
    form = find_form(console.get(LIST).text, f"{LIST}/select")
    console.post(f"{LIST}/select", {**form.values.to_dict(), "name": "nowhere"}, 404)


def test_sidebar_of_operators_links_to_the_tenants(console: Console) -> None:
    console.sign_in("viewer", None)
    assert f'href="{LIST}"' in console.get("/account").text
    console.sign_in("owner")
    assert f'href="{LIST}"' not in console.get("/account").text
    console.get(LIST, 403)


def test_tenant_is_created(console: Console) -> None:
    console.sign_in("owner", None)
    page = console.submit(NEW, action=LIST, name="north", demographics="y")
    assert "The tenant north is created." in visible_text(page.text)
    assert TenantStore(console.services.store).get("north").demographics


@pytest.mark.parametrize("name", ["", "West", "a b", "../x", "<b>", "x" * 65])
def test_invalid_or_existing_name_is_explained(console: Console, name: str) -> None:
    console.sign_in("owner", None)
    before = names(console)
    page = console.submit(NEW, action=LIST, status=422, name=name)
    assert "Nothing was changed." in visible_text(page.text)
    assert "<b>" not in page.text
    assert names(console) == before


def test_tenant_is_deleted_after_its_name_was_typed(console: Console) -> None:
    console.services.tokens.create("West app", [], "west")
    console.sign_in("owner", None)
    page = console.submit(f"{LIST}/west", action=f"{LIST}/west/delete", status=422, typed_name="West")
    assert "This is not the name of the tenant." in visible_text(page.text)
    assert "west" in names(console)
    page = console.submit(f"{LIST}/west", action=f"{LIST}/west/delete", typed_name="west")
    assert "The tenant west is deleted." in visible_text(page.text)
    assert "west" not in names(console)
    assert not console.services.tokens.list("west")
    console.get(f"{LIST}/west", 404)


def test_records_of_a_deleted_tenant_are_deleted_by_the_worker(empty_console: Console) -> None:
    fill(empty_console.services.store, "west")
    tenants = TenantStore(empty_console.services.store)
    empty_console.sign_in("owner", None)
    page = empty_console.submit(f"{LIST}/west", action=f"{LIST}/west/delete", typed_name="west")
    assert f"west {tenants.count_records('west')}" in visible_text(page.text).partition("Records left")[2]
    assert tenants.count_records("west") > 0
    page = empty_console.submit(NEW, action=LIST, status=422, name="west")
    assert "not deleted completely yet" in visible_text(page.text)
    empty_console.services.job_worker.run_pending()
    assert tenants.count_records("west") == 0
    assert "Being deleted" not in visible_text(empty_console.get(LIST).text)


def test_default_tenant_cannot_be_deleted(console: Console) -> None:
    console.sign_in("owner", None)
    page = console.get(f"{LIST}/default").text
    assert "/delete" not in page
    token = find_form(page, "/logout").values["csrf_token"]
    fields = {"csrf_token": token, "tenant": "default", "typed_name": "default"}
    console.post(f"{LIST}/default/delete", fields, 409)
    assert "default" in names(console)


def test_page_of_a_tenant_counts_its_records(console: Console) -> None:
    console.sign_in("viewer", None)
    page = visible_text(console.get(f"{LIST}/default").text)
    assert "users" in page
    assert "tokens" in page
    console.get(f"{LIST}/nowhere", 404)


def test_uploads_of_a_deleted_tenant_are_deleted(empty_console: Console, tmp_path: Path) -> None:
    content = io.BytesIO(package_bytes(PackageBuilder(), tmp_path))
    empty_console.services.jobs.upload_import("west", content, "west.zip", requested_by="kim")
    assert list((tmp_path / "data").rglob("upload-*"))
    empty_console.sign_in("owner", None)
    empty_console.submit(f"{LIST}/west", action=f"{LIST}/west/delete", typed_name="west")
    empty_console.services.job_worker.run_pending()
    assert not list((tmp_path / "data").rglob("upload-*"))
