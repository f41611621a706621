"""Commands on a failing or damaged store: one line with the reason, exit code 1, and no traceback."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import SAMPLE, RunCommand, StartCommand
from tests.support.failures import FULL_DEVICE, file_size_limit

URLS = {"sqlite": "sqlite:///chalk.db", "json": "json:///chalk"}
COMMANDS = (
    ("check",),
    ("check", "--repair"),
    ("export", "out.zip"),
    ("import", SAMPLE),
    ("imports", "list"),
    ("token", "list"),
    ("token", "create", "--label", "tool"),
    ("client", "list"),
    ("issuer", "list"),
    ("tenant", "list"),
    ("webhook", "list"),
    ("audit",),
    ("copy",),
)


def run_all(run: RunCommand, url: str) -> dict[str, tuple[int, str]]:
    """Run every command on the store and return exit code and message by command."""
    results = {}
    for command in COMMANDS:
        places = [url, "sqlite:///target.db"] if command == ("copy",) else ["--storage", url]
        result = run(*command, *places)
        assert "Traceback" not in result.err + result.out
        assert "the command failed" not in result.err, result.err
        results[" ".join(map(str, command))] = (result.code, result.err + result.out)
    return results


def empty_file(folder: Path) -> str:
    (folder / "chalk.db").touch()
    return URLS["sqlite"]


def folder_in_place_of_the_file(folder: Path) -> str:
    (folder / "chalk.db").mkdir()
    return URLS["sqlite"]


def file_of_another_program(folder: Path) -> str:
    (folder / "chalk.db").write_text("Dear Sir or Madam, this is no database. " * 100)
    return URLS["sqlite"]


@pytest.mark.parametrize("spoil", [empty_file, folder_in_place_of_the_file, file_of_another_program])
def test_place_without_a_store_fails_every_command(run: RunCommand, tmp_path: Path, spoil: object) -> None:
    assert callable(spoil)
    results = run_all(run, spoil(tmp_path))
    assert {code for code, _ in results.values()} == {1}, results
    assert all("chalk.db" in message for _, message in results.values()), results


@pytest.fixture(params=["sqlite", "json"])
def url(request: pytest.FixtureRequest, run: RunCommand) -> str:
    """URL of a store with the sample district."""
    url = URLS[request.param]
    assert run("import", SAMPLE, "--storage", url).code == 0
    return url


def damaged_contents(content: bytes) -> Iterator[bytes]:
    """Yield the content with bytes flipped, or cut off, at several places."""
    for position in range(0, len(content), len(content) // 2):
        yield content[:position] + bytes([content[position] ^ 0x21]) * 300 + content[position + 300 :]
        yield content[:position]


@pytest.mark.slow
def test_damaged_files_fail_without_a_traceback(run: RunCommand, tmp_path: Path, url: str) -> None:
    store = tmp_path / ("chalk.db" if url == URLS["sqlite"] else "chalk")
    intact = tmp_path / "intact"
    intact.mkdir()
    store.rename(intact / store.name)
    files = sorted(path for path in intact.rglob("*") if path.is_file() and path.suffix in (".db", ".json"))
    for path in random.Random(3).sample(files, min(len(files), 5)):
        for damaged in damaged_contents(path.read_bytes()):
            shutil.copytree(intact, tmp_path, dirs_exist_ok=True)
            (tmp_path / path.relative_to(intact)).write_bytes(damaged)
            for code, message in run_all(run, url).values():
                assert code == 0 or message
            for used in (*tmp_path.glob("chalk*"), *tmp_path.glob("target.db*")):
                shutil.rmtree(used) if used.is_dir() else used.unlink()


def test_current_json_that_is_missing_is_refused_until_the_repair(run: RunCommand, tmp_path: Path) -> None:
    assert run("import", SAMPLE, "--storage", URLS["json"]).code == 0
    digest = run("check", "--storage", URLS["json"], "--json").json["state"]
    (tmp_path / "chalk" / "default" / "current.json").unlink()
    files = sorted(path.name for path in (tmp_path / "chalk" / "default").iterdir())
    for command in (("check",), ("import", SAMPLE), ("export", "out.zip")):
        result = run(*command, "--storage", URLS["json"])
        assert result.code == 1
        assert "current.json is missing" in result.err
        assert "check --repair" in result.err
    assert sorted(path.name for path in (tmp_path / "chalk" / "default").iterdir()) == files
    repaired = run("check", "--repair", "--storage", URLS["json"], "--json")
    assert (repaired.code, repaired.json["state"]) == (0, digest)


def test_check_compares_columns_and_side_table_with_the_bodies(run: RunCommand, tmp_path: Path) -> None:
    assert run("import", SAMPLE, "--storage", URLS["sqlite"]).code == 0
    for sql, words in (
        ("UPDATE users SET familyName = 'x' WHERE _id < 4", "users: the values of 3 records differ"),
        ("DELETE FROM _many", "users: the values of"),
    ):
        with closing(sqlite3.connect(tmp_path / "chalk.db", isolation_level=None)) as connection:
            connection.execute(sql)
        checked = run("check", "--json")
        assert checked.code == 1
        assert words in " ".join(checked.json["problems"])
        assert run("check", "--repair").code == 0
        assert run("check").code == 0


def test_dropped_column_and_table_are_refused_and_rebuilt(run: RunCommand, tmp_path: Path) -> None:
    assert run("import", SAMPLE, "--storage", URLS["sqlite"]).code == 0
    with closing(sqlite3.connect(tmp_path / "chalk.db", isolation_level=None)) as connection:
        connection.execute('DROP INDEX IF EXISTS "users:familyName"')
        connection.execute("ALTER TABLE users DROP COLUMN familyName")
        connection.execute("DROP TABLE _many")
    result = run("check")
    assert (result.code, "the table _many" in result.err, "the column familyName of users" in result.err) == (
        1,
        True,
        True,
    )
    assert run("serve", "--port", "0").code == 1
    assert run("check", "--repair").code == 0


def test_import_beyond_a_file_size_limit_names_the_cause(run: RunCommand, url: str, tmp_path: Path) -> None:
    before = run("check", "--storage", url, "--json").json["state"]
    with file_size_limit(200):
        result = run("token", "create", "--label", "tool", "--storage", url)
    assert result.code == 1
    assert "file size limit" in result.err
    assert run("check", "--storage", url, "--json").json["state"] == before


def test_import_to_a_full_disk_names_the_cause(run: RunCommand, tmp_path: Path) -> None:
    assert run("token", "create", "--label", "tool", "--storage", URLS["json"]).code == 0
    tenant = tmp_path / "chalk" / "default"
    before = {path.name: path.read_bytes() for path in tenant.iterdir()}
    (tenant / "current.json.next").symlink_to(FULL_DEVICE)
    result = run("import", SAMPLE, "--storage", URLS["json"])
    assert result.code == 1
    assert "the disk is full" in result.err
    (tenant / "current.json.next").unlink()
    assert {path.name: path.read_bytes() for path in tenant.iterdir()} == before


def test_serve_does_not_start_on_an_unreadable_store(start: StartCommand, run: RunCommand, tmp_path: Path) -> None:
    assert run("import", SAMPLE, "--storage", URLS["json"]).code == 0
    [users] = (tmp_path / "chalk" / "default").glob("users.*.json")
    users.write_bytes(users.read_bytes()[:-20])
    with start("serve", "--storage", URLS["json"], "--port", "0") as process:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
    assert users.name in err
    assert "Listening" not in err
    assert "Traceback" not in err
