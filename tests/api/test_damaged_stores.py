"""Requests to stores with flipped or missing bytes: a response or 503 with the reason, and no other 5xx."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import StorageError
from chalk_flask import create_app
from tests.conftest import services_of, url_in
from tests.support.api_client import CHALK, IMS, Consumer
from tests.support.small_roster import fill

PATHS = (
    f"{CHALK}/users",
    f"{CHALK}/enrollments?fields=sourcedId,user",
    f"{IMS}/users?limit=2&offset=3&sort=familyName",
    f"{IMS}/classes/c-1/students?filter=role='student'",
    f"{IMS}/orgs",
    f"{CHALK}/changes?since=0",
)


def damaged_copies(intact: Path, count: int) -> Iterator[Path]:
    """Yield `count` folders with copies of the store in `intact`, each with a damaged file."""
    choose = random.Random(11)
    files = sorted(path for path in intact.rglob("*") if path.suffix in (".db", ".json"))
    for number in range(count):
        copy = intact.with_name(f"copy-{number}")
        shutil.copytree(intact, copy)
        path = choose.choice(files)
        content = path.read_bytes()
        position = choose.randrange(len(content))
        flipped = content[:position] + bytes([content[position] ^ 1 << number % 8]) + content[position + 1 :]
        (copy / path.relative_to(intact)).write_bytes(content[:position] if number % 4 == 0 else flipped)
        yield copy


@pytest.mark.on_backend("sqlite", "json")
@pytest.mark.parametrize("count", [6, pytest.param(40, marks=pytest.mark.slow)])
def test_damaged_store_is_never_500(backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int) -> None:
    intact = tmp_path / "intact"
    intact.mkdir()
    app = create_app(storage=url_in(intact, backend))
    fill(services_of(app).store)
    token = Consumer(app).token
    services_of(app).store.close()
    statuses: set[int] = set()
    for copy in damaged_copies(intact, count):
        try:
            app = create_app(storage=url_in(copy, backend))
        except StorageError:
            continue
        consumer = Consumer(app, token)
        for path in PATHS:
            try:
                statuses.add(consumer.get(path).status_code)
            except StorageError:  # a stream breaks; the test client raises what ends the connection in the server
                continue
            assert 500 not in statuses, caplog.text
        services_of(app).store.close()
    assert 200 in statuses
