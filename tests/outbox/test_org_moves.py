"""A receiver of some orgs only, while people and enrollments move between schools at random."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.outbox.conftest import changes, forget, subscribe
from tests.support.api_client import CHALK, Consumer
from tests.support.histories import load
from tests.support.packages import Made

STEPS = 6
SCHOOLS = {"org-2": "class-1", "org-3": "class-2"}


def shuffled(draw: random.Random) -> Made:
    """The small roster with some of its people and enrollments elsewhere, or nowhere."""
    made = Made()
    for row in made.rows["users"]:
        row["orgSourcedIds"] = draw.choice(["org-2", "org-3", "org-1", "org-2,org-3"])
        row["givenName"] = draw.choice(["Ada", "Bo"])
    for row in made.rows["enrollments"]:
        row["schoolSourcedId"] = draw.choice(list(SCHOOLS))
        row["classSourcedId"] = SCHOOLS[row["schoolSourcedId"]]
    gone = [row["sourcedId"] for row in made.rows["enrollments"] if draw.random() < 0.3]
    return made.drop("enrollments", *gone).drop("results", "result-1")


def belonging(app: Flask, org: str) -> dict[tuple[str, str], Any]:
    """The users and enrollments of an org as the API serves them."""
    found = {}
    for entity, collection in (("user", "users"), ("enrollment", "enrollments")):
        answer = Consumer(app).get(f"{CHALK}/{collection}").json
        assert answer is not None
        for record in answer[collection]:
            orgs = [each["sourcedId"] for each in record.get("orgs", [record.get("school")])]
            if org in orgs and record["status"] == "active":
                found[entity, record["sourcedId"]] = record
    return found


@pytest.mark.parametrize("seed", range(2))
def test_a_copy_of_an_org_holds_at_any_time_what_belongs_to_it(app: Flask, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    for org in SCHOOLS:
        subscribe(app, org, orgs=[org], entities=["user", "enrollment"], full=True)
        subscribe(app, f"{org}-batched", orgs=[org], entities=["user", "enrollment"], full=True, mode="batched")
    copies = {f"{org}{mode}": belonging(app, org) for org in SCHOOLS for mode in ("", "-batched")}
    for _ in range(STEPS):
        load(app, shuffled(draw), tmp_path)
        for name, copy in copies.items():
            apply(copy, changes(app, name))
            assert copy == belonging(app, name.removesuffix("-batched"))
        forget(app)


def apply(copy: dict[tuple[str, str], Any], told: list[dict[str, Any]]) -> None:
    for each in told:
        place = each["entity_type"], each["sourced_id"]
        assert (place in copy) == (each["action"] != "created")
        if each["action"] == "deleted":
            del copy[place]
        else:
            copy[place] = each["entity"]
