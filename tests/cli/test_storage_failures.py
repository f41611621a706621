"""Commands on a failing or damaged store: one line with the reason, exit code 1, and no traceback."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from backends import open_store
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import SAMPLE, RunCommand, StartCommand
from tests.cli.test_commands import COMMANDS as LEAF_COMMANDS
from tests.support.paths import ROOT
from tests.support.storage.failures import FULL_DEVICE, file_size_limit, public_folder, without_root

URLS = {"sqlite": "sqlite:///chalk.db", "json": "json:///chalk"}
ISSUER = ("--iss", "https://login.example.org", "--aud", "chalk", "--jwks-url", "https://login.example.org/jwks")
SECRET = ROOT / "chalk_flask" / "background" / "__init__.py"
"""File with one line, which can be the secret of a source."""
PROVIDER = ("--url", "https://192.0.2.1/ims/oneroster/v1p1", "--client-id", "x", "--secret-file", SECRET)
COMMANDS: tuple[tuple[str | Path, ...], ...] = (
    ("check",),
    ("export", "out.zip"),
    ("import", SAMPLE),
    *(("imports", *rest) for rest in (["list"], ["show", "run-1"], ["approve", "run-1"], ["discard", "run-1"])),
    *(("token", *rest) for rest in (["create", "--label", "tool"], ["list"], ["rotate", "0123"], ["revoke", "0123"])),
    *(("client", *rest) for rest in (["create", "--label", "tool"], ["list"], ["rotate", "c-1"], ["revoke", "c-1"])),
    *(("issuer", *rest) for rest in (["add", *ISSUER], ["list"], ["remove", "i-1"])),
    *(("admin", *rest) for rest in (["create", "kim"], ["list"], ["mail", "kim"], ["reset", "kim"], ["delete", "kim"])),
    *(("tenant", *rest) for rest in (["create", "north"], ["list"], ["show", "north"], ["set", "north", "--lenient"])),
    ("tenant", "delete", "north", "--yes"),
    *(("webhook", *rest) for rest in (["create", "--url", "https://192.0.2.1/x"], ["list"])),
    *(("webhook", verb, "wh-1") for verb in ("show", "pause", "resume", "rotate", "test", "delete")),
    ("webhook", "replay", "wh-1", "--since", "2d"),
    ("source", "add", "--name", "sis", *PROVIDER),
    *(("source", *rest) for rest in (["list"], ["show", "sis"], ["set", "sis", "--at", "02:00"], ["sync", "sis"])),
    ("source", "remove", "sis"),
    ("secrets", "rotate"),
    ("audit",),
    ("backup", "backup.tar.gz"),
    ("copy",),
    ("demo", "--no-serve"),
    ("check", "--repair"),
)
"""Every command that opens a store, but `serve` and `restore`, with arguments that are valid for an intact one."""


def test_every_command_that_opens_a_store_is_tested() -> None:
    untested = {names for names in LEAF_COMMANDS if names not in {command[: len(names)] for command in COMMANDS}}
    names = ("serve", "worker", "restore", "validate", "backends", "completion", "man-page")
    assert untested == {*((name,) for name in names), ("config", "show"), ("mail", "test")}


def run_all(
    run: RunCommand, url: str, commands: Sequence[tuple[str | Path, ...]] = COMMANDS
) -> dict[str, tuple[int, str]]:
    """Run the commands on the store and return exit code and message by command."""
    results = {}
    for command in commands:
        places = [url, "sqlite:///target.db"] if command == ("copy",) else ["--storage", url]
        result = run(*command, *places)
        assert "Traceback" not in result.err + result.out
        assert "the command failed" not in result.err, result.err
        results[" ".join(map(str, command))] = (result.code, result.err + result.out)
    return results


CREATING = {("import", SAMPLE), ("demo", "--no-serve")}
"""Commands that create a store. The target of `copy` is created, but not its source."""


def test_missing_store_fails_every_command_with_its_path(run: RunCommand, tmp_path: Path) -> None:
    commands = [*(command for command in COMMANDS if command not in CREATING), ("backup", "x.tar.gz"), ("worker",)]
    for place in ("typo.db", "sqlite:///typo.db", "json:///typo.db"):
        results = run_all(run, place, commands)
        assert {code for code, _ in results.values()} == {1}, results
        expected = f"at {tmp_path}/typo.db"
        assert all(expected in message for _, message in results.values()), results
    assert list(tmp_path.iterdir()) == []


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
    choose = random.Random(3)
    for path in choose.sample(files, min(len(files), 5)):
        for damaged in damaged_contents(path.read_bytes()):
            shutil.copytree(intact, tmp_path, dirs_exist_ok=True)
            (tmp_path / path.relative_to(intact)).write_bytes(damaged)
            for code, message in run_all(run, url, [COMMANDS[0], *choose.sample(COMMANDS, 12)]).values():
                assert code == 0 or message
            for used in (*tmp_path.glob("chalk*"), *tmp_path.glob("target.db*")):
                shutil.rmtree(used) if used.is_dir() else used.unlink()


def make_newer(store: Path) -> None:
    """Let a store declare a schema version that no program knows yet."""
    if store.is_dir():
        description = json.loads((store / "store.json").read_text())
        (store / "store.json").write_text(json.dumps(description | {"schemaVersion": 99}))
    else:
        run_sql(store, "PRAGMA user_version = 99")


def run_sql(store: Path, *statements: str) -> None:
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_store_of_a_newer_program_fails_every_command(run: RunCommand, tmp_path: Path, url: str) -> None:
    store = tmp_path / ("chalk.db" if url == URLS["sqlite"] else "chalk")
    make_newer(store)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.suffix in (".db", ".json")}
    results = run_all(run, url)
    assert {code for code, _ in results.values()} == {1}, results
    assert all("99" in message for _, message in results.values()), results
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("statements", "part"),
    [
        (["DROP TABLE _many"], "the table _many"),
        (
            ['DROP INDEX IF EXISTS "users:familyName"', "ALTER TABLE users DROP COLUMN familyName"],
            "the column familyName",
        ),
        (['DROP INDEX "_many:value"'], "the index _many:value"),
    ],
)
def test_store_without_a_part_fails_every_command_until_the_repair(
    run: RunCommand, tmp_path: Path, statements: list[str], part: str
) -> None:
    assert run("import", SAMPLE).code == 0
    state = run("check", "--json").json["state"]
    run_sql(tmp_path / "chalk.db", *statements)
    results = run_all(run, URLS["sqlite"], COMMANDS[:-1])
    assert {code for code, _ in results.values()} == {1}, results
    assert all(part in message and "--repair" in message for _, message in results.values()), results
    assert run("check", "--repair", "--json").json["state"] == state
    assert run("check").code == 0


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
        run_sql(tmp_path / "chalk.db", sql)
        checked = run("check", "--json")
        assert checked.code == 1
        assert words in " ".join(checked.json["problems"])
        assert run("check", "--repair").code == 0
        assert run("check").code == 0


def test_serve_does_not_start_on_a_store_without_a_part(run: RunCommand, tmp_path: Path) -> None:
    assert run("import", SAMPLE).code == 0
    run_sql(tmp_path / "chalk.db", "DROP TABLE _many")
    result = run("serve", "--port", "0")
    assert (result.code, "the table _many" in result.err) == (1, True)


def test_import_beyond_a_file_size_limit_names_the_cause(run: RunCommand, url: str, tmp_path: Path) -> None:
    before = run("check", "--storage", url, "--json").json["state"]
    with file_size_limit(200):
        result = run("token", "create", "--label", "tool", "--storage", url)
    assert result.code == 1
    assert "file size limit" in result.err
    assert run("check", "--storage", url, "--json").json["state"] == before


def test_import_to_a_full_disk_names_the_cause(run: RunCommand) -> None:
    with public_folder() as folder:
        url = f"json:///{folder}/chalk"
        assert run("import", SAMPLE, "--storage", f"json:///{folder}/other").code == 0  # imports all modules
        open_store(url, COLLECTIONS).close()
        assert run("webhook", "create", "--url", "https://hooks.example.org/", "--storage", url).code == 0
        tenant = folder / "chalk" / "default"
        for path in folder.rglob("*"):
            path.chmod(0o777)
        before = {path.name: path.read_bytes() for path in tenant.iterdir()}
        (tenant / "current.json.next").symlink_to(FULL_DEVICE)
        with without_root():  # root does not write through links
            result = run("import", SAMPLE, "--storage", url)
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
