"""Random changes to a small roster, and all that a client can read of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from flask import Flask

from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.roster.imports import ImportOptions, import_package
from tests.conftest import services_of
from tests.support.api_client import CHALK, Consumer
from tests.support.packages import Made

CHANGE_TIME = "2026-09-01T10:00:00.000Z"


def load(app: Flask, package: Made, folder: Path) -> str:
    report = import_package(services_of(app).store, "default", package.folder(folder / "package"), ImportOptions())
    return report.state


def read_all(consumer: Consumer) -> dict[tuple[str, str], Any]:
    """All that a client can read, deleted records too, by entity and id."""
    found = {}
    for name, resource in RESOURCES.items():
        answer = consumer.get(f"{CHALK}/{name}?filter=dateLastModified>'2000-01-01'")
        assert answer.status_code == 200, answer.text
        assert answer.json is not None
        for record in answer.json[name]:
            found[resource.singular_name, record["sourcedId"]] = record
    return found


class RandomChanges:
    """Random changes by imports of both kinds and by a grade tool."""

    def __init__(self, app: Flask, folder: Path, seed: int) -> None:
        self.app, self.folder = app, folder
        self.draw = random.Random(seed)
        self.tool = Consumer(app)
        self.number = 0

    def step(self) -> None:
        self.draw.choice([self.bulk, self.delta, self.grade, self.delete])()

    def bulk(self) -> None:
        made = Made()
        for name in ("results", "enrollments", "classResources"):
            made.rows[name] = [row for row in made.rows[name] if self.draw.random() < 0.6]
        made.set("users", "pupil-1", givenName=self.draw.choice(["Ada", "Bo", "Cy"]))
        assert load(self.app, made, self.folder) in ("committed", "unchanged")

    def delta(self) -> None:
        made = Made().only("orgs")
        made.properties["file.orgs"] = "delta"
        base = {
            "dateLastModified": CHANGE_TIME,
            "name": self.draw.choice("xyz"),
            "type": "school",
            "parentSourcedId": "org-1",
        }
        made.rows["orgs"] = [
            {**base, "sourcedId": f"more-{n}", "status": self.draw.choice(["active", "tobedeleted"])} for n in range(3)
        ]
        assert load(self.app, made, self.folder) in ("committed", "unchanged")

    def grade(self) -> None:
        item = {
            "title": self.draw.choice("abc"),
            "assignDate": CHANGE_TIME,
            "dueDate": CHANGE_TIME,
            "class": {"sourcedId": "class-1"},
            "resultValueMin": 0,
            "resultValueMax": 9,
        }
        path = f"{CHALK}/lineItems/tool-{self.draw.randrange(3)}"
        answer = self.tool.client.put(
            path, json={"lineItem": item}, headers={"Authorization": f"Bearer {self.tool.token}"}
        )
        assert answer.status_code in (200, 201), answer.text

    def delete(self) -> None:
        answer = self.tool.get(f"{CHALK}/lineItems/tool-{self.draw.randrange(3)}", method="DELETE")
        assert answer.status_code in (204, 404), answer.text
