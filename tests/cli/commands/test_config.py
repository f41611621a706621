"""Command `config show`."""

from __future__ import annotations

from pathlib import Path

from chalk_flask.settings import SETTINGS
from tests.cli.conftest import RunCommand


def test_invalid_setting_is_named_with_its_source(run: RunCommand) -> None:
    result = run("config", "show", env={"CHALK_PORT": "http"})
    assert result.code == 2
    assert result.err == (
        "Error: port cannot be 'http' (environment variable CHALK_PORT): it must be a whole number, 0 to 65535\n"
    )


def test_show_has_value_and_source_of_every_setting(run: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "chalk.toml").write_text("threads = 3\n")
    result = run("config", "show", "--config", "chalk.toml", "--json", env={"CHALK_PORT": "9000"})
    rows = {row.pop("name"): row for row in result.json["settings"]}
    assert list(rows) == [setting.name for setting in SETTINGS]
    assert rows["port"] == {"value": 9000, "source": "environment"}
    assert rows["threads"] == {"value": 3, "source": "file"}
    assert rows["lenient_parent"] == {"value": False, "source": "default"}


def test_show_hides_passwords(run: RunCommand) -> None:
    url = "postgresql://chalk:hunter2@db.example/roster"
    for args in (["--json"], []):
        result = run("config", "show", "--storage", url, *args)
        assert "postgresql://chalk:***@db.example/roster" in result.out
        assert "hunter2" not in result.out
