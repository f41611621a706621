"""Command `audit`: events of the audit log and the access log, merged and selected."""

from __future__ import annotations

import json
import re
import shutil
import signal
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chalk_flask.cli.package_import import current_user
from tests.cli.conftest import SAMPLE, RunCommand, StartCommand

pytestmark = pytest.mark.usefixtures("empty_store")

NOW = datetime.now(UTC)


def events(run: RunCommand, *args: str) -> list[str]:
    result = run("audit", "--json", *args)
    assert result.code == 0, result.err
    return [entry["event"] for entry in result.json["entries"]]


def log_reads(folder: Path, *times: datetime) -> None:
    """Write access log entries with these times to the default folder."""
    reads = folder / "chalk-data" / "reads"
    reads.mkdir(parents=True, exist_ok=True)
    for time in times:
        text = time.isoformat(timespec="microseconds").replace("+00:00", "Z")
        with (reads / f"{text[:10]}.jsonl").open("a") as file:
            file.write(json.dumps({"time": text, "tenant": "default", "event": "read", "by": "5f0c", "rows": 2}) + "\n")


@pytest.fixture
def invalid_package(tmp_path: Path) -> Path:
    """Package that is rejected."""
    package = Path(shutil.copytree(SAMPLE, tmp_path / "package"))
    (package / "users.csv").write_text("nonsense\n")
    return package


def test_import_event_has_counts(run: RunCommand, invalid_package: Path) -> None:
    assert run("import", invalid_package).code == 1
    assert events(run) == [], "a rejected first package creates no store"
    assert run("import", SAMPLE).code == 0
    assert run("import", SAMPLE, "--dry-run").code == 0
    assert run("import", invalid_package).code == 1
    [committed] = run("audit", "--json").json["entries"]
    assert committed["event"] == "import.committed"
    assert committed["created"] == committed["rows"] > 100
    assert committed["by"]
    assert (committed["deleted"], committed["purged"]) == (0, 0)
    assert "package" not in str(committed)


def test_changes_and_reads_are_merged_in_order_of_time(run: RunCommand, tmp_path: Path) -> None:
    log_reads(tmp_path, NOW - timedelta(days=2))
    created = run("token", "create", "--label", "Reading app", "--json").json
    log_reads(tmp_path, datetime.now(UTC))
    run("token", "revoke", created["id"])
    assert events(run) == ["read", "token.created", "read", "token.revoked"]


def test_text_output_has_a_line_per_event(run: RunCommand, tmp_path: Path) -> None:
    created = run("token", "create", "--label", "Reading app", "--json").json
    log_reads(tmp_path, datetime.now(UTC))
    first, second = run("audit").out.splitlines()
    assert re.fullmatch(
        rf'\S+Z  default  token\.created  id={created["id"]} label="Reading app" scopes=https://\S+ by=\S+', first
    )
    assert second.endswith("Z  default  read  by=5f0c rows=2")


@pytest.mark.parametrize(("since", "count"), [("47h", 0), ("7d", 1), ("2020-01-01", 2)])
def test_since_selects_the_events_after_a_time(since: str, count: int, run: RunCommand, tmp_path: Path) -> None:
    log_reads(tmp_path, NOW - timedelta(days=30), NOW - timedelta(days=2))
    assert events(run, "--since", since) == ["read"] * count


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--until", "24h"], ["read"]),
        (["--event", "token.created"], ["token.created"]),
        (["--event", "read", "--since", "24h"], ["read"]),
        (["--limit", "2"], ["token.created", "read"]),
        (["--limit", "1", "--event", "read", "--until", "24h", "--tenant", "default"], ["read"]),
        (["--event", "issuer.added"], []),
    ],
    ids=["until", "event", "reads", "limit", "all", "none"],
)
def test_options_select_events(options: list[str], expected: list[str], run: RunCommand, tmp_path: Path) -> None:
    log_reads(tmp_path, NOW - timedelta(days=2))
    assert run("token", "create", "--label", "x").code == 0
    log_reads(tmp_path, datetime.now(UTC))
    assert events(run, *options) == expected


def test_unknown_event_is_a_usage_error(run: RunCommand) -> None:
    result = run("audit", "--event", "token.create")
    assert (result.code, "did you mean token.created?" in result.err) == (2, True)
    unrelated = run("audit", "--event", "zzzz")
    assert (unrelated.code, "; the events are administrator." in unrelated.err) == (2, True)


def test_events_of_commands_name_the_user(run: RunCommand) -> None:
    created = run("token", "create", "--label", "x", "--json").json
    run("client", "create", "--label", "x")
    run("webhook", "create", "--url", "https://hooks.example.org/x")
    run("token", "revoke", created["id"])
    entries = run("audit", "--json").json["entries"]
    assert [entry["by"] for entry in entries] == [current_user()] * 4


def test_since_includes_events_of_exactly_that_time(run: RunCommand, tmp_path: Path) -> None:
    noon = datetime(2031, 5, 2, 12, 0, tzinfo=UTC)
    log_reads(tmp_path, noon - timedelta(days=1), noon - timedelta(hours=1), noon)
    assert events(run, "--since", "2031-05-02T12:00:00") == ["read"]


def test_since_rejects_other_texts_as_a_usage_error(run: RunCommand) -> None:
    result = run("audit", "--since", "yesterday")
    assert result.code == 2
    assert "is not a date (2026-01-31" in result.err


def test_tenant_option_selects_the_events_of_a_tenant(run: RunCommand, tmp_path: Path) -> None:
    run("tenant", "create", "north")
    run("token", "create", "--label", "x", "--tenant", "north")
    run("token", "create", "--label", "x")
    log_reads(tmp_path, datetime.now(UTC))
    assert events(run, "--tenant", "north") == ["tenant.created", "token.created"]
    assert events(run, "--tenant", "default") == ["token.created", "read"]
    result = run("audit", "--tenant", "south", "--json")
    assert (result.code, result.json["error"]) == (1, "refused")


@pytest.mark.slow
def test_reads_of_a_stopped_service_are_listed(run: RunCommand, start: StartCommand, tmp_path: Path) -> None:
    token = run("token", "create", "--label", "x", "--json").json
    with start("serve", "--port", "0") as process:
        url = next(match[1] for line in process.stderr if (match := re.search(r"Listening on (\S+)", line)))
        for path in ("users?filter=familyName='Curie'", "orgs/o-1"):
            request = urllib.request.Request(
                f"{url}/ims/oneroster/v1p1/{path}", headers={"Authorization": f"Bearer {token['token']}"}
            )
            try:
                urllib.request.urlopen(request, timeout=20).close()
            except urllib.error.HTTPError as error:
                error.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    entries = [entry for entry in run("audit", "--json").json["entries"] if entry["event"] == "read"]
    assert [(entry["by"], entry["route"], entry["status"]) for entry in entries] == [
        (token["id"], "/ims/oneroster/v1p1/users", 200),
        (token["id"], "/ims/oneroster/v1p1/orgs/{id}", 404),
    ]


def test_text_output_has_no_control_characters(run: RunCommand, tmp_path: Path) -> None:
    log_reads(tmp_path, NOW)
    [path] = (tmp_path / "chalk-data" / "reads").iterdir()
    path.write_text(path.read_text().replace("5f0c", "\\u001b[31m"))
    assert "\x1b" not in run("audit").out
    assert run("audit", "--json").json["entries"][0]["by"] == "\x1b[31m"
