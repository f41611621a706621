"""Pages with hostile text in every field of the roster: it stays text, and no part of it becomes HTML."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from chalk_flask.oneroster.fields.composites import (
    MetadataField,
    RefField,
    RefListField,
    TextListField,
    UserIdsField,
)
from chalk_flask.oneroster.fields.scalars import OneRosterField, TextField
from chalk_flask.oneroster.schemas import FILES, RESOURCES
from chalk_flask.tenants.store import TenantStore
from tests.support.console.client import Console, links_of
from tests.support.small_roster import ROSTER

CORPUS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "</title></textarea><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "--><b onclick=alert(1)>x</b><!--",
    "\u202eسارة\u202c " + "W" * 250,
)
MARK = "x-1"
"""Sourced id of the hostile record of each collection."""


class Inspector(HTMLParser):
    """Parser that collects what could run: scripts, event attributes, and URLs that are not links of the service."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        data = {name: value or "" for name, value in attrs}
        if tag == "script" and not data.get("src", "").startswith("/static/console/"):
            self.found.append(f"script {data}")
        if tag in ("iframe", "object", "embed", "img", "base", "style", "b"):
            self.found.append(tag)
        self.found += [f"{name}={value}" for name, value in data.items() if name.startswith("on") or name == "style"]
        for name in ("href", "action", "src", "formaction"):
            if name in data and not data[name].startswith(("/", "#", "?")):
                self.found.append(f"{name}={data[name]}")
        self.inline = tag if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        if self.inline == "script" and data.strip():
            self.found.append(f"inline {data}")

    def handle_endtag(self, tag: str) -> None:
        self.inline = ""


def hostile_value(field: OneRosterField, text: str) -> Any:
    """Return a value with the text, or None if the field accepts no free text."""
    match field:
        case UserIdsField():
            return [{"type": text, "identifier": text}]
        case MetadataField():
            return {text: {"nested": [text, 1, None]}}
        case RefListField():
            return [text]
        case RefField():
            return text
        case TextListField() if not hasattr(field, "vocabulary"):
            return [text]
        case TextField():
            return text
        case _:
            return None


def hostile_rows(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield collection and record with the text in every field that accepts it."""
    for name, resource_type in RESOURCES.items():
        row = {**ROSTER[name][0], "sourcedId": MARK}
        for field_name, field in resource_type.fields.items():
            value = hostile_value(field, text)
            if value is not None and field_name != "sourcedId":
                row[field_name] = value
        yield name, row


def put(console: Console, name: str, row: dict[str, Any]) -> None:
    with console.services.store.write("default") as transaction:
        transaction.put(name, [FILES[name].record(row)])


def check(text: str) -> None:
    inspector = Inspector()
    inspector.feed(text)
    assert inspector.found == []


@pytest.mark.parametrize("text", CORPUS)
def test_hostile_text_in_every_field_stays_text(console: Console, text: str) -> None:
    TenantStore(console.services.store).update("default", demographics=True)
    console.sign_in("owner")
    for name, row in hostile_rows(text):
        put(console, name, row)
        put(console, name, {**row, "sourcedId": text})
    for name in RESOURCES:
        if name != "demographics":
            page = console.get(f"/roster/{name}")
            check(page.text)
            check(console.get(f"/roster/{name}/{MARK}").text)
            check(console.get(next(link for link in links_of(page.text) if link.startswith(f"/roster/{name}/"))).text)
    check(console.submit(f"/roster/users/{MARK}", action=f"/demographics/{MARK}", status=200).text)
    check(console.submit("/roster/demographics", action="/roster/demographics", status=200).text)
    for path in ("/quality", "/quality/records/shared-emails", "/quality/records/classes-without-teacher"):
        check(console.get(path).text)


@pytest.mark.parametrize("text", CORPUS)
def test_hostile_text_in_parameters_stays_text(console: Console, text: str) -> None:
    console.sign_in("owner")
    check(console.search("/roster/users", q=text).text)
    check(console.search("/roster/users", 422, filter=text).text)
    check(console.get("/roster/users", sort=text, orderBy="desc").text)
    check(console.search("/audit", id=text).text)
    check(
        console.submit("/explorer/getUser", action="/explorer/getUser#response", status=200, id=text, fields=text).text
    )


def test_inspector_finds_what_could_run() -> None:
    inspector = Inspector()
    inspector.feed('<script>a</script><b onclick="x"></b><a href="javascript:x">y</a><p style="x">')
    assert len(inspector.found) == 6
