"""Webhooks with an org filter, while users and enrollments move between schools at random."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.outbox.conftest import clear_outbox, sent_changes, subscribe
from tests.support.api_client import CHALK, Consumer
from tests.support.histories import load
from tests.support.packages import PackageBuilder

STEPS = 6
SCHOOLS = {"org-2": "class-1", "org-3": "class-2"}


def shuffle_package(draw: random.Random) -> PackageBuilder:
    """Return the small roster with users and enrollments in random schools, and some enrollments removed."""
    package = PackageBuilder()
    for row in package.rows["users"]:
        row["orgSourcedIds"] = draw.choice(["org-2", "org-3", "org-1", "org-2,org-3"])
        row["givenName"] = draw.choice(["Ada", "Bo"])
    for row in package.rows["enrollments"]:
        row["schoolSourcedId"] = draw.choice(list(SCHOOLS))
        row["classSourcedId"] = SCHOOLS[row["schoolSourcedId"]]
    removed = [row["sourcedId"] for row in package.rows["enrollments"] if draw.random() < 0.3]
    return package.drop("enrollments", *removed).drop("results", "result-1")


def served_records_of(app: Flask, org: str) -> dict[tuple[str, str], Any]:
    """Return the users and enrollments of an org as the API serves them, without orgs that its webhooks cannot see."""
    records = {}
    for entity, collection in (("user", "users"), ("enrollment", "enrollments")):
        response = Consumer(app).get(f"{CHALK}/{collection}").json
        assert response is not None
        for record in response[collection]:
            orgs = [reference["sourcedId"] for reference in record.get("orgs", [record.get("school")])]
            if org in orgs and record["status"] == "active":
                visible = [ref for ref in record.get("orgs", ()) if ref["sourcedId"] in (org, "org-1")]
                records[entity, record["sourcedId"]] = record | ({"orgs": visible} if entity == "user" else {})
    return records


@pytest.mark.parametrize("seed", range(2))
def test_org_filter_keeps_copy_complete_after_each_import(app: Flask, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    for org in SCHOOLS:
        subscribe(app, org, orgs=[org], entities=["user", "enrollment"], full=True)
        subscribe(app, f"{org}-batched", orgs=[org], entities=["user", "enrollment"], full=True, mode="batched")
    copies = {f"{org}{mode}": served_records_of(app, org) for org in SCHOOLS for mode in ("", "-batched")}
    for _ in range(STEPS):
        load(app, shuffle_package(draw), tmp_path)
        for name, copy in copies.items():
            changes, served = sent_changes(app, name), served_records_of(app, name.removesuffix("-batched"))
            apply_changes(copy, changes)
            assert without_stale(copy) == without_stale(served)
            sent = [change["entity"] for change in changes if change["entity_type"] == "user" and "entity" in change]
            for agent in [agent for user in sent for agent in user["agents"]]:
                assert ("user", agent["sourcedId"]) in served
        clear_outbox(app)


STALE = ("agents", "dateLastModified")
"""Members that a copy has as they were visible at the last change that was sent (L-10, L-11)."""


def without_stale(records: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    return {place: {name: record[name] for name in record if name not in STALE} for place, record in records.items()}


def apply_changes(copy: dict[tuple[str, str], Any], changes: list[dict[str, Any]]) -> None:
    for change in changes:
        place = change["entity_type"], change["sourced_id"]
        assert (place in copy) == (change["action"] != "created")
        if change["action"] == "deleted":
            del copy[place]
        else:
            copy[place] = change["entity"]
