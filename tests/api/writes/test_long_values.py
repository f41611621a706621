"""Values that SQLite stores, and that do not fit into an index of PostgreSQL."""

from __future__ import annotations

import random
import string
from pathlib import Path

import orjson

from chalk_flask import create_app
from tests.api.writes.conftest import Tool
from tests.conftest import services_of


def test_value_that_postgresql_cannot_index_is_rejected(postgresql_url: str, tmp_path: Path) -> None:
    app = create_app(storage=f"{postgresql_url}&partitions=1", data=str(tmp_path / "data"))
    text = "".join(random.Random(14).choices(string.ascii_letters + string.digits, k=5_000))
    too_long = {"category": {"title": "Quiz", "metadata": {"note": text}}}
    try:
        tool = Tool(app)
        for created in False, True:
            response = tool.send("/categories/cat-1", too_long)
            assert response.status_code == 422
            assert "2704 bytes" in response.text
            if not created:
                assert tool.get("/categories/cat-1").status_code == 404
                assert tool.send("/categories/cat-1", {"category": {"title": "Quiz"}}).status_code == 201
        assert "metadata" not in orjson.loads(tool.get("/categories/cat-1").data)["category"]
    finally:
        services_of(app).store.close()
