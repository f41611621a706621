"""Command `backends`."""

from __future__ import annotations

from tests.cli.conftest import RunCommand


def test_backends_are_listed_with_their_properties(run: RunCommand) -> None:
    rows = {row["scheme"]: row for row in run("backends", "--json").json["backends"]}
    assert {"json", "memory", "postgresql", "sqlite"} <= set(rows)
    assert (rows["sqlite"]["durable"], rows["sqlite"]["shared"], rows["sqlite"]["from"]) == (True, True, "chalk-flask")
    assert (rows["memory"]["durable"], rows["memory"]["shared"]) == (False, False)
    assert run("backends").out.startswith("SCHEME      DURABLE  SHARED  FROM\n")
