"""Command `check`: counts, digest and problems of a store."""

from __future__ import annotations

from pathlib import Path

from backends import Record, open_store
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import SAMPLE, RunCommand


def test_check_without_a_store_is_valid_and_creates_nothing(run: RunCommand, tmp_path: Path) -> None:
    result = run("check", "--json")
    assert result.code == 0
    assert list(result.json) == ["ok", "counts", "digest", "state", "problems"]
    assert (result.json["ok"], result.json["counts"], result.json["problems"]) == (True, {}, [])
    assert not list(tmp_path.iterdir())


def test_equal_rosters_have_equal_digests_on_every_backend(run: RunCommand) -> None:
    digests = set()
    for url in ("sqlite:///chalk.db", "json:///chalk"):
        assert run("import", SAMPLE, "--storage", url).code == 0
        checked = run("check", "--storage", url, "--json").json
        assert checked["ok"], checked["problems"]
        assert checked["counts"]["users"] > 10
        assert set(checked["counts"]) <= {path.stem for path in SAMPLE.glob("*.csv")}
        digests.add(checked["digest"])
    assert len(digests) == 1


def test_invalid_store_exits_with_1(run: RunCommand, tmp_path: Path) -> None:
    run("import", SAMPLE)
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store, store.write("default") as transaction:
        transaction.put("users", [Record("broken", b'{"sourcedId":"broken"}')])
    result = run("check", "--json")
    assert (result.code, result.json["ok"]) == (1, False)
    assert result.json["problems"][0].startswith("users 'broken': not in canonical form")
    assert "NOT valid" in run("check").out
