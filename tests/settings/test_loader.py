"""Where a setting's value comes from, and what is said when it will not do."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from pathlib import Path

import pytest

from chalk_flask.settings import SETTINGS, Settings, SettingsError, describe_settings, example_toml, load_settings
from chalk_flask.settings.setting import without_passwords
from tests.support.paths import ROOT


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "chalk.toml"


def complaint(arguments: dict[str, object] | None = None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(arguments, environ or {})
    return str(caught.value)


def test_without_anything_every_setting_stands_at_its_default() -> None:
    settings = load_settings({}, {})
    assert settings == Settings()
    assert {row.source for row in describe_settings(settings)} == {"default"}


def test_arguments_win_over_the_environment_that_over_the_file_that_over_the_defaults(toml: Path) -> None:
    toml.write_text('port = 1\nthreads = 2\nhost = "file.example"\n')
    environ = {"CHALK_CONFIG": str(toml), "CHALK_PORT": "3", "CHALK_THREADS": "4"}
    settings = load_settings({"port": 5}, environ)
    assert (settings.port, settings.threads, settings.host, settings.max_limit) == (5, 4, "file.example", 0)
    sources = {row.name: row.source for row in describe_settings(settings)}
    assert [sources[name] for name in ("port", "threads", "host", "max_limit")] == [
        "argument",
        "environment",
        "file",
        "default",
    ]


def test_the_argument_config_wins_over_the_variable(toml: Path) -> None:
    toml.write_text("port = 7\n")
    assert load_settings({"config": toml}, {"CHALK_CONFIG": "/nowhere.toml"}).port == 7


def test_an_argument_that_is_none_was_not_given() -> None:
    assert load_settings({"port": None, "config": None}, {"CHALK_PORT": "9"}).port == 9


def test_the_process_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CHALK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CHALK_PORT", "4711")
    assert load_settings().port == 4711


def test_settings_cannot_be_changed_once_read() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_settings({}, {}).port = 1  # type: ignore[misc]  # the point of the test


def test_a_value_may_be_read_from_a_file_without_its_last_line_break(tmp_path: Path) -> None:
    secret = tmp_path / "storage"
    secret.write_text("sqlite:///from-file.db\r\n")
    settings = load_settings({}, {"CHALK_STORAGE_FILE": str(secret)})
    assert settings.storage == "sqlite:///from-file.db"


def test_a_value_given_both_directly_and_by_file_is_refused(tmp_path: Path) -> None:
    message = complaint({}, {"CHALK_PORT": "1", "CHALK_PORT_FILE": str(tmp_path / "port")})
    assert "CHALK_PORT and CHALK_PORT_FILE" in message


def test_a_value_file_that_is_missing_is_named_with_its_variable() -> None:
    message = complaint({}, {"CHALK_STORAGE_FILE": "/nowhere/storage"})
    assert "CHALK_STORAGE_FILE" in message
    assert "/nowhere/storage" in message


def test_a_bad_value_from_a_file_is_blamed_on_the_variable_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("many\n")
    assert "CHALK_PORT_FILE" in complaint({}, {"CHALK_PORT_FILE": str(tmp_path / "port")})


def test_an_unknown_argument_is_named_with_the_closest_known_one() -> None:
    message = complaint({"max_limits": 5})
    assert "'max_limits'" in message
    assert "did you mean max_limit?" in message


def test_an_unknown_variable_is_named_with_the_closest_known_one() -> None:
    message = complaint({}, {"CHALK_STORRAGE": "memory:"})
    assert "CHALK_STORRAGE" in message
    assert "did you mean CHALK_STORAGE?" in message


def test_an_unknown_key_of_the_file_is_named_with_the_file_and_the_closest_known_one(toml: Path) -> None:
    toml.write_text("threds = 3\n")
    message = complaint({"config": str(toml)})
    assert "'threds'" in message
    assert str(toml) in message
    assert "did you mean threads?" in message


def test_a_table_in_the_file_is_an_unknown_key(toml: Path) -> None:
    toml.write_text("[server]\nport = 3\n")
    assert "'server'" in complaint({"config": str(toml)})


def test_a_key_that_resembles_nothing_gets_the_whole_list() -> None:
    message = complaint({"zzz": 1})
    assert all(setting.name in message for setting in SETTINGS)


def test_other_programs_variables_are_left_alone() -> None:
    assert load_settings({}, {"CHALKBOARD": "x", "PORT": "y"}) == Settings()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"port = ", "is not TOML"), (b'host = "\xff"', "UTF-8"), (None, "cannot be read")],
)
def test_a_settings_file_that_cannot_be_used_is_named(toml: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        toml.write_bytes(content)
    message = complaint({"config": str(toml)})
    assert said in message
    assert str(toml) in message


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("port", "eighty", "a whole number, 0 to 65535"),
        ("port", "65536", "a whole number, 0 to 65535"),
        ("port", "1_000", "a whole number, 0 to 65535"),
        ("port", "٣", "a whole number, 0 to 65535"),
        ("port", "", "a whole number, 0 to 65535"),
        ("threads", "0", "a whole number, 1 to 1000"),
        ("max_limit", "-1", "a whole number, 0 or more"),
        ("tombstone_days", "89", "a whole number, 90 or more"),
        ("lenient_parent", "maybe", "true or false"),
        ("log_level", "loud", "one of debug, info, warning, error"),
        ("host", " ", "something"),
        ("storage", "", "something"),
        ("public_url", "https://roster.example.org/", "without a trailing slash"),
        ("public_url", "roster.example.org", "http:// or https://"),
        ("public_url", "https://[roster", "http:// or https://"),
        ("trusted_proxy", "proxy.example.org", "an IP address"),
    ],
)
def test_a_bad_value_is_named_with_its_key_its_source_and_what_is_allowed(name: str, value: str, allowed: str) -> None:
    message = complaint({}, {f"CHALK_{name.upper()}": value})
    assert message.startswith(f"{name} cannot be {value!r} (environment variable CHALK_{name.upper()})")
    assert allowed in message


@pytest.mark.parametrize(
    ("line", "key"),
    [("port = true", "port"), ("port = 1.5", "port"), ("lenient_parent = 1", "lenient_parent"), ("host = 1", "host")],
)
def test_a_value_of_another_toml_type_is_refused(toml: Path, line: str, key: str) -> None:
    toml.write_text(line)
    assert complaint({"config": str(toml)}).startswith(f"{key} cannot be")


@pytest.mark.parametrize(
    ("text", "value"),
    [(word, True) for word in ("true", "YES", "1", "on")] + [(word, False) for word in ("false", "No", "0", " off ")],
)
def test_truth_can_be_said_in_several_words(text: str, value: bool) -> None:
    assert load_settings({}, {"CHALK_LENIENT_PARENT": text}).lenient_parent is value


@pytest.mark.parametrize("value", ["", "http://localhost:8080", "https://example.org/roster", "http://[::1]:8080"])
def test_a_public_url_is_an_http_address_to_which_paths_can_be_appended(value: str) -> None:
    assert load_settings({"public_url": value}, {}).public_url == value


@pytest.mark.parametrize("value", ["127.0.0.1", "::1", "*", ""])
def test_a_trusted_proxy_is_an_address_or_any(value: str) -> None:
    assert load_settings({"trusted_proxy": value}, {}).trusted_proxy == value


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///chalk.db", "sqlite:///chalk.db"),
        ("sqlite:////var/lib/chalk-flask/chalk.db", "sqlite:////var/lib/chalk-flask/chalk.db"),
        ("postgresql://chalk:pa:s/s@w@db.example/chalk", "postgresql://chalk:***@db.example/chalk"),
        ("postgresql://:only@db.example", "postgresql://:***@db.example"),
        ("postgresql://db/chalk?password=hush&sslmode=require", "postgresql://db/chalk?password=***&sslmode=require"),
        ("memory:", "memory:"),
    ],
)
def test_a_storage_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_passwords(url) == shown
    settings = load_settings({"storage": url}, {})
    assert {row.name: row.value for row in describe_settings(settings)}["storage"] == shown
    assert settings.storage == url


def test_a_password_is_neither_in_an_error_nor_in_the_representation() -> None:
    assert "hush" not in repr(load_settings({"storage": "postgresql://chalk:hush@db"}, {}))
    message = complaint({"storage": ["postgresql://chalk:hush@db"]})
    assert "storage" in message
    assert "hush" not in message


def test_every_setting_says_what_it_is_for_and_no_name_can_be_mistaken_for_a_value_file() -> None:
    assert all(setting.help.endswith(".") for setting in SETTINGS)
    assert not [setting.name for setting in SETTINGS if setting.name.endswith("_file") or setting.name == "config"]


def test_every_default_would_be_accepted_if_given() -> None:
    assert load_settings({setting.name: setting.default for setting in SETTINGS}, {}) == Settings()


def test_the_example_file_is_generated_from_the_table() -> None:
    assert (ROOT / "config" / "chalk.example.toml").read_text(encoding="utf-8") == example_toml()


def test_the_example_file_uncommented_is_a_settings_file_with_every_setting_at_its_default(toml: Path) -> None:
    names = {setting.name for setting in SETTINGS}
    lines = [line.removeprefix("# ") for line in example_toml().splitlines()]
    toml.write_text("\n".join(line for line in lines if line.partition(" = ")[0] in names))
    assert list(tomllib.loads(toml.read_text())) == [setting.name for setting in SETTINGS]
    assert load_settings({"config": str(toml)}, {}) == Settings()
