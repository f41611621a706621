"""Command `source`."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from chalk_flask.cli.commands import source
from chalk_flask.sources import limits
from chalk_flask.sources.record import AuthKind
from tests.cli.conftest import ENVIRON, SAMPLE, CommandResult, RunCommand
from tests.support.sources.provider import SECRET, Provider, Reply, run_provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    with run_provider(10) as running:
        yield running


@pytest.fixture
def add(run: RunCommand, provider: Provider) -> CommandResult:
    """Result of `source add`, in an empty store with the source `sis`."""
    run("import", SAMPLE)
    run("tenant", "create", "north")
    return run(
        *(
            "source",
            "add",
            "--name",
            "sis",
            "--url",
            provider.url,
            "--client-id",
            "chalk",
            "--tenant",
            "north",
            "--json",
        ),
        stdin=SECRET.encode() + b"\n",
    )


def test_source_is_added_and_synced(run: RunCommand, add: CommandResult, provider: Provider) -> None:
    assert (add.code, add.json["name"], add.json["clientId"], add.json["lastSuccess"]) == (0, "sis", "chalk", None)
    assert SECRET not in add.out + add.err
    first = run("source", "sync", "sis", "--tenant", "north", "--json")
    assert (first.code, first.json["state"], first.json["files"]["users"]["created"]) == (0, "committed", 10)
    second = run("source", "sync", "sis", "--tenant", "north")
    assert second.code == 0
    assert "users" in second.out
    shown = run("source", "show", "sis", "--tenant", "north")
    assert re.search(r"last result +unchanged", shown.out)
    assert SECRET not in shown.out
    listed = run("source", "list", "--tenant", "north")
    assert re.search(r"^sis +oauth2 +- +\d{4}-\S+ +unchanged +-$", listed.out, re.MULTILINE)
    assert run("source", "list", "--json").json == {"sources": [], "worker": None}


def test_dry_run_and_full_sync(run: RunCommand, add: CommandResult, provider: Provider) -> None:
    arguments = ("source", "sync", "sis", "--tenant", "north", "--json")
    assert run(*arguments, "--dry-run").json["state"] == "checked"
    assert run(*arguments).json["state"] == "committed"
    del provider.roster["enrollments"][0]
    assert run(*arguments).json["total"]["deleted"] == 0
    assert run(*arguments, "--full").json["total"]["deleted"] == 1


def test_quiet_sync_prints_nothing(run: RunCommand, add: CommandResult) -> None:
    result = run("source", "sync", "sis", "--tenant", "north", "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_rejected_sync_exits_with_1_and_a_held_one_with_3(
    run: RunCommand, add: CommandResult, provider: Provider
) -> None:
    provider.roster["users"][1]["role"] = "king"
    rejected = run("source", "sync", "sis", "--tenant", "north")
    assert rejected.code == 1
    assert "king" in rejected.err
    provider.roster["users"][1]["role"] = "student"
    assert run("source", "sync", "sis", "--tenant", "north").code == 0
    del provider.roster["users"][1:], provider.roster["enrollments"][1:]
    held = run("source", "sync", "sis", "--tenant", "north", "--full")
    assert held.code == 3
    assert "imports approve" in held.err


def test_failed_sync_exits_with_1_and_is_listed(run: RunCommand, add: CommandResult, provider: Provider) -> None:
    provider.replies = lambda path, query: Reply(404) if path == "classes" else None
    failed = run("source", "sync", "sis", "--tenant", "north", "--json")
    assert (failed.code, failed.json["error"]) == (1, "refused")
    assert "answers a request of classes with the status 404" in failed.json["message"]
    [listed] = run("source", "list", "--tenant", "north", "--json").json["sources"]
    assert (listed["lastError"], listed["failures"]) == (failed.json["message"], 1)


def test_failed_sync_prints_one_message(add: CommandResult, provider: Provider, tmp_path: Path) -> None:
    provider.replies = lambda path, query: Reply(404) if path == "classes" else None
    command = [sys.executable, "-m", "chalk_flask", "source", "sync", "sis", "--tenant", "north"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert "answers a request of classes with the status 404" in line


def test_scheduled_source_shows_its_next_sync(run: RunCommand, add: CommandResult, provider: Provider) -> None:
    arguments = ("source", "add", "--url", provider.url, "--auth", "bearer", "--secret-file", "-")
    hourly = run(*arguments, "--name", "hourly", "--every", "1h", stdin=b"x")
    nightly = run(*arguments, "--name", "nightly", "--at", "02:30", "--json", stdin=b"x")
    assert (hourly.code, nightly.json["at"]) == (0, "02:30")
    listed = run("source", "list")
    assert re.search(r"^hourly +bearer +\d{4}-\S+ +never", listed.out, re.MULTILINE)
    assert re.search(r"^nightly +bearer +\S+T02:30:00.000Z +never", listed.out, re.MULTILINE)
    assert "Start `chalk-flask serve` or `chalk-flask worker`" in listed.err
    shown = run("source", "show", "nightly")
    assert "every day at 02:30 UTC" in shown.out
    assert run("source", "show", "hourly", "--json").json["everySeconds"] == 3600


def test_sync_says_that_it_read_no_demographics(run: RunCommand, add: CommandResult, provider: Provider) -> None:
    note = "Demographics were not read, because the tenant has not opted in to them."
    arguments = ("source", "sync", "sis", "--tenant", "north")
    assert run(*arguments, "--json").json["notes"] == [note]
    assert note in run(*arguments).out
    assert re.search(r"^demographics +not read by the last sync$", run("source", "show", *arguments[2:]).out, re.M)


SET = ("source", "set", "sis", "--tenant", "north")


def test_source_is_changed(run: RunCommand, add: CommandResult, provider: Provider) -> None:
    changed = run(*SET, "--at", "2:30", "--page-size", "50", "--full-days", "3")
    assert changed.code == 0
    assert re.search(r"^schedule +every day at 02:30 UTC$", changed.out, re.MULTILINE)
    assert "chalk-flask source sync sis --dry-run --tenant north" in changed.out
    result = run(*SET, "--no-schedule", "--json").json
    assert (result["at"], result["pageSize"], result["fullDays"]) == (None, 50, 3)
    assert run("source", "sync", "sis", "--tenant", "north").code == 0
    events = run("audit", "--tenant", "north", "--json").out
    assert '"changed":["at"]' in events.replace(" ", "")


def test_secret_is_replaced(run: RunCommand, add: CommandResult, provider: Provider, tmp_path: Path) -> None:
    (tmp_path / "token.txt").write_text("t-1\n")
    result = run(*SET, "--auth", "bearer", "--secret-file", "token.txt", "--json")
    assert (result.code, result.json["auth"], result.json["clientId"]) == (0, "bearer", None)
    provider.tokens.add("t-2")
    assert run("source", "sync", "sis", "--tenant", "north").code == 1
    assert run(*SET, "--new-secret", stdin=b"t-2").code == 0
    assert run("source", "sync", "sis", "--tenant", "north").code == 0


def test_url_of_another_server_requires_the_secret(run: RunCommand, add: CommandResult) -> None:
    result = run(*SET, "--url", "https://x.example/v1p1", "--json")
    assert result.code == 1
    assert "the secret is required again" in result.json["message"]
    assert "--new-secret or --secret-file" in result.json["message"]
    assert run(*SET, "--url", "https://x.example/v1p1", "--new-secret", stdin=SECRET.encode()).code == 0
    assert "https://x.example/oauth/token" in run("source", "show", "sis", "--tenant", "north").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a change is required"),
        (["--at", "24:00"], "Invalid value for '--at': '24:00' is not a time of day"),
        (["--every", "1m"], "Invalid value for '--every': the interval must be at least 5 minutes"),
        (["--at", "02:30", "--no-schedule"], "cannot be combined: a source has one schedule"),
        (["--page-size", "0"], "Invalid value for '--page-size'"),
        (["--token-url", ""], "--token-url must not be empty"),
    ],
)
def test_invalid_change_exits_with_2(run: RunCommand, add: CommandResult, arguments: list[str], message: str) -> None:
    result = run(*SET, *arguments)
    assert result.code == 2
    assert message in result.err


def test_unknown_source_cannot_be_changed(run: RunCommand, add: CommandResult) -> None:
    result = run("source", "set", "other", "--at", "02:30")
    assert result.code == 1
    assert "has no source 'other'" in result.err


def test_missing_store_is_explained(run: RunCommand, tmp_path: Path) -> None:
    result = run("source", "add", "--name", "a", "--url", "https://x.example/", "--client-id", "b", stdin=b"x")
    assert result.code == 1
    assert f"there is no store at {tmp_path}" in result.err
    assert "create an empty one: start `chalk-flask serve`, and repeat this command while it runs" in result.err


def test_limits_of_options_are_those_of_sources() -> None:
    assert (source.DEFAULT_PAGE_SIZE, source.MAX_PAGE_SIZE) == (limits.DEFAULT_PAGE_SIZE, limits.MAX_PAGE_SIZE)
    assert get_args(AuthKind) == source.AUTH_KINDS


def test_removed_source_is_gone(run: RunCommand, add: CommandResult) -> None:
    assert run("source", "remove", "sis", "--tenant", "north").code == 0
    result = run("source", "sync", "sis", "--tenant", "north")
    assert result.code == 1
    assert "chalk-flask source list --tenant north" in result.err


def test_secret_is_read_from_a_file(run: RunCommand, add: CommandResult, tmp_path: Path, provider: Provider) -> None:
    (tmp_path / "secret.txt").write_bytes(SECRET.encode() + b"\r\n")
    arguments = ("source", "add", "--url", provider.url, "--auth", "bearer", "--secret-file")
    assert run(*arguments, "secret.txt", "--name", "a").code == 0
    assert run(*arguments, "-", "--name", "b", stdin=b"x").code == 0
    missing = run(*arguments, "missing.txt", "--name", "c", "--json")
    assert (missing.code, missing.json["error"], "--secret-file" in missing.err) == (2, "usage", True)
    (tmp_path / "binary").write_bytes(b"\xff")
    assert "not ASCII" in run(*arguments, "binary", "--name", "d").err
    assert "the secret must have" in run(*arguments, "-", "--name", "e", stdin=b"").err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "https://x.example/", "--name", "a"],
        ["--url", "https://x.example/", "--name", "a", "--auth", "bearer", "--client-id", "b"],
        [
            "--url",
            "https://x.example/",
            "--name",
            "a",
            "--auth",
            "oauth1",
            "--client-id",
            "b",
            "--token-url",
            "https://x",
        ],
        ["--url", "https://x.example/", "--name", "a", "--auth", "basic"],
        ["--url", "https://x.example/", "--name", "a", "--client-id", "b", "--full-days", "0"],
        ["--url", "https://x.example/", "--name", "a", "--client-id", "b", "--every", "1m"],
        ["--url", "https://x.example/", "--name", "a", "--client-id", "b", "--every", "1h", "--at", "02:30"],
        ["--url", "https://x.example/", "--name", "a", "--client-id", "b", "--at", "half past two"],
        ["--name", "a", "--client-id", "b"],
    ],
)
def test_invalid_options_exit_with_2(run: RunCommand, add: CommandResult, arguments: list[str]) -> None:
    assert run("source", "add", *arguments, stdin=b"x").code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "a b"], "'--name': invalid name 'a b'"),
        (
            ["--url", "http://ada:p4ss@x.example/"],
            "'--url': invalid URL 'http://***@x.example/': it must not contain a name",
        ),
        (["--url", "http://ada:p4ss@x.example/"], "(--client-id and --secret-file)"),
        (["--url", "ftp://x.example/"], "it must begin with https://"),
        (["--token-url", "https://ada:p4ss@x.example/"], "'--token-url': invalid URL 'https://***@x.example/'"),
    ],
)
def test_invalid_name_or_url_is_a_usage_error(
    run: RunCommand, add: CommandResult, options: list[str], message: str
) -> None:
    given = ("--name", "a", "--url", "https://x.example/", "--client-id", "b", *options)
    commands = [("source", "add", *given), *([] if "--name" in options else [(*SET, *options)])]
    for command in commands:
        result = run(*command, "--json", stdin=b"x")
        assert (result.code, result.json["error"]) == (2, "usage"), command
        assert message in result.json["message"]
        assert "p4ss" not in result.out + result.err


def test_quiet_and_json_cannot_be_combined(run: RunCommand, add: CommandResult) -> None:
    assert run("source", "sync", "sis", "--quiet", "--json").code == 2


def test_unknown_tenant_and_missing_store_are_errors(run: RunCommand, add: CommandResult) -> None:
    for arguments in (["list"], ["sync", "sis"]):
        assert run("source", *arguments, "--tenant", "nowhere").code == 1
        assert "there is no store" in run("source", *arguments, "--storage", "missing.db").err


@pytest.mark.slow
def test_prompt_shows_no_secret(run: RunCommand, add: CommandResult, tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "chalk_flask", "source", "add", "--name", "typed", "--url", "https://x.example/"]
    with subprocess.Popen(
        [*command, "--client-id", "chalk"], cwd=tmp_path, env=ENVIRON, stdin=terminal, stdout=subprocess.PIPE,
        stderr=terminal, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(terminal)
        shown = b""
        while b"Client secret: " not in shown:
            shown += os.read(controller, 1024)
        os.write(controller, SECRET.encode() + b"\n")
        assert process.stdout
        out = process.stdout.read()
        assert process.wait(60) == 0
    os.close(controller)
    assert b"Added the source typed" in out
    assert SECRET.encode() not in shown + out
