"""`chalk-flask audit` shows what was changed and what was read."""

from __future__ import annotations

import json
import re
import shutil
import signal
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Start

SAMPLE = Path(str(files("chalk_flask.demo")))
NOW = datetime.now(UTC)


def events(run: Run, *words: str) -> list[str]:
    ran = run("audit", "--json", *words)
    assert ran.code == 0, ran.err
    return [each["event"] for each in ran.json["entries"]]


def recorded(folder: Path, *moments: datetime) -> None:
    """Lines of reads at these moments, in the default folder."""
    reads = folder / "chalk-data" / "reads"
    reads.mkdir(parents=True, exist_ok=True)
    for moment in moments:
        time = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
        with (reads / f"{time[:10]}.jsonl").open("a") as file:
            file.write(json.dumps({"time": time, "tenant": "default", "event": "read", "by": "5f0c", "rows": 2}) + "\n")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A package that is refused."""
    package = Path(shutil.copytree(SAMPLE, tmp_path / "package"))
    (package / "users.csv").write_text("nonsense\n")
    return package


def test_where_nothing_was_done_nothing_is_shown_nor_made(run: Run, tmp_path: Path) -> None:
    assert run("audit", "--json").json == {"entries": []}
    ran = run("audit")
    assert (ran.code, ran.out, ran.err) == (0, "", "There are no events.\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("storage", ["sqlite:///chalk.db", "json:///chalk"])
def test_an_import_is_told_by_its_counts(storage: str, run: Run, broken: Path) -> None:
    assert run("import", broken, "--storage", storage).code == 1
    assert events(run, "--storage", storage) == [], "a first package that is refused leaves nothing"
    assert run("import", SAMPLE, "--storage", storage).code == 0
    assert run("import", SAMPLE, "--storage", storage, "--dry-run").code == 0
    assert run("import", broken, "--storage", storage).code == 1
    [committed] = run("audit", "--json", "--storage", storage).json["entries"]
    assert committed["event"] == "import.committed"
    assert committed["created"] == committed["rows"] > 100
    assert (committed["deleted"], committed["purged"]) == (0, 0)
    assert "package" not in str(committed)


def test_both_kinds_are_one_account_in_the_order_of_time(run: Run, tmp_path: Path) -> None:
    recorded(tmp_path, NOW - timedelta(days=2))
    made = run("token", "create", "--label", "Reading app", "--json").json
    recorded(tmp_path, datetime.now(UTC))
    run("token", "revoke", made["id"])
    assert events(run) == ["read", "token.created", "read", "token.revoked"]


def test_for_a_person_an_entry_is_a_line(run: Run, tmp_path: Path) -> None:
    made = run("token", "create", "--label", "Reading app", "--json").json
    recorded(tmp_path, datetime.now(UTC))
    first, second = run("audit").out.splitlines()
    assert re.fullmatch(
        rf'\S+Z  default  token\.created  id={made["id"]} label="Reading app" scopes=https://\S+', first
    )
    assert second.endswith("Z  default  read  by=5f0c rows=2")


@pytest.mark.parametrize(("span", "many"), [("3600s", 0), ("60m", 0), ("47h", 0), ("49h", 1), ("7d", 1), ("52w", 2)])
def test_since_is_a_span(span: str, many: int, run: Run, tmp_path: Path) -> None:
    recorded(tmp_path, NOW - timedelta(days=30), NOW - timedelta(days=2))
    assert events(run, "--since", span) == ["read"] * many


@pytest.mark.parametrize(("form", "many"), [("%Y-%m-%d", 2), ("%Y-%m-%dT%H:%M:%S", 1), ("%Y-%m-%dT%H:%M:%S+00:00", 1)])
def test_since_is_a_moment(form: str, many: int, run: Run, tmp_path: Path) -> None:
    noon = datetime(2031, 5, 2, 12, 0, tzinfo=UTC)
    recorded(tmp_path, noon - timedelta(days=1), noon - timedelta(hours=1), noon)
    assert events(run, "--since", noon.strftime(form)) == ["read"] * many


def test_a_moment_without_a_zone_is_utc_and_one_with_a_zone_is_heeded(run: Run, tmp_path: Path) -> None:
    recorded(tmp_path, datetime(2031, 5, 2, 12, 0, tzinfo=UTC))
    assert events(run, "--since", "2031-05-02T14:00:00+02:00") == ["read"]
    assert events(run, "--since", "2031-05-02T14:00:00") == []


@pytest.mark.parametrize("since", ["", "yesterday", "7", "d", "-1d", "2026-13-01", "999999999w", "٣d"])
def test_what_is_no_moment_is_a_usage_error(since: str, run: Run) -> None:
    ran = run("audit", "--since", since)
    assert ran.code == 2
    assert "is not a date (2026-01-31" in ran.err


def test_a_tenant_has_an_account_of_its_own(run: Run, tmp_path: Path) -> None:
    run("tenant", "create", "north")
    run("token", "create", "--label", "x", "--tenant", "north")
    run("token", "create", "--label", "x")
    recorded(tmp_path, datetime.now(UTC))
    assert events(run, "--tenant", "north") == ["tenant.created", "token.created"]
    assert events(run, "--tenant", "default") == ["token.created", "read"]
    ran = run("audit", "--tenant", "south", "--json")
    assert (ran.code, ran.json["error"]) == (1, "refused")


def test_what_a_service_answered_is_shown_when_it_has_ended(run: Run, start: Start, tmp_path: Path) -> None:
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
        assert process.wait(20) == 0
    entries = [each for each in run("audit", "--json").json["entries"] if each["event"] == "read"]
    assert [(each["by"], each["route"], each["status"]) for each in entries] == [
        (token["id"], "/ims/oneroster/v1p1/users", 200),
        (token["id"], "/ims/oneroster/v1p1/orgs/{id}", 404),
    ]


def test_a_terminal_gets_no_control_characters(run: Run, tmp_path: Path) -> None:
    recorded(tmp_path, NOW)
    [path] = (tmp_path / "chalk-data" / "reads").iterdir()
    path.write_text(path.read_text().replace("5f0c", "\\u001b[31m"))
    assert "\x1b" not in run("audit").out
    assert run("audit", "--json").json["entries"][0]["by"] == "\x1b[31m"
