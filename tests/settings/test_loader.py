"""Loading of settings: sources, precedence, errors, display and the example file."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from chalk_flask.settings import SETTINGS, Settings, SettingsError, describe_settings, example_toml, load_settings
from chalk_flask.settings.setting_type import without_passwords
from tests.support.paths import ROOT


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "chalk.toml"


def error_of(arguments: dict[str, object] | None = None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(arguments, environ or {})
    return str(caught.value)


@pytest.mark.parametrize("name", ["public_url", "oidc_issuer", "webhook_allowed_hosts"])
def test_error_for_a_url_does_not_contain_its_password(name: str) -> None:
    message = error_of({name: "https://ada:p4ss@sis.example.org"})
    assert message.startswith(f"{name} cannot be 'https://ada:***@sis.example.org'")
    assert "p4ss" not in message


def test_settings_have_their_defaults_without_any_source() -> None:
    settings = load_settings({}, {})
    assert settings == Settings()
    assert {row.source for row in describe_settings(settings)} == {"default"}


def test_precedence_is_arguments_environment_file_defaults(toml: Path) -> None:
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


def test_argument_config_takes_precedence_over_the_variable(toml: Path) -> None:
    toml.write_text("port = 7\n")
    assert load_settings({"config": toml}, {"CHALK_CONFIG": "/nowhere.toml"}).port == 7


def test_argument_none_is_ignored() -> None:
    assert load_settings({"port": None, "config": None}, {"CHALK_PORT": "9"}).port == 9


def test_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CHALK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CHALK_PORT", "4711")
    assert load_settings().port == 4711


def test_settings_are_immutable() -> None:
    with pytest.raises(AttributeError):
        load_settings({}, {}).port = 1  # type: ignore[misc]  # must fail


def test_value_file_is_read_without_its_last_line_break(tmp_path: Path) -> None:
    secret = tmp_path / "storage"
    secret.write_text("sqlite:///from-file.db\r\n")
    settings = load_settings({}, {"CHALK_STORAGE_FILE": str(secret)})
    assert settings.storage == "sqlite:///from-file.db"


def test_value_and_value_file_together_are_rejected(tmp_path: Path) -> None:
    message = error_of({}, {"CHALK_PORT": "1", "CHALK_PORT_FILE": str(tmp_path / "port")})
    assert "CHALK_PORT and CHALK_PORT_FILE" in message


def test_missing_value_file_is_an_error_that_names_its_variable() -> None:
    message = error_of({}, {"CHALK_STORAGE_FILE": "/nowhere/storage"})
    assert "CHALK_STORAGE_FILE" in message
    assert "/nowhere/storage" in message


def test_invalid_value_in_a_file_is_an_error_that_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("many\n")
    assert "CHALK_PORT_FILE" in error_of({}, {"CHALK_PORT_FILE": str(tmp_path / "port")})


def test_unknown_argument_is_an_error_with_a_suggestion() -> None:
    message = error_of({"max_limits": 5})
    assert "'max_limits'" in message
    assert "did you mean max_limit?" in message


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_trusted_proxy_is_recognized_in_any_notation(text: str, address: str) -> None:
    assert load_settings({"trusted_proxy": text}, {}).trusted_proxy == address


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [
        ("CHALK_STORRAGE", "Did you mean CHALK_STORAGE?"),
        ("CHALK_PROT", "Did you mean CHALK_PORT?"),
        ("CHALK_PORTFILE", "Did you mean CHALK_PORT_FILE?"),
        ("CHALK_CONFIG_", "Did you mean CHALK_CONFIG?"),
        ("CHALK_ZZZZZZZZZZZZ", "`chalk-flask config show` lists the settings."),
    ],
)
def test_unknown_variable_is_ignored_with_a_warning(
    variable: str, remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_settings({}, {variable: "hush", "CHALK_PORT": "9"}) == Settings(port=9)
    [warning] = caplog.records
    assert warning.levelname == "WARNING"
    assert f"{variable} is ignored. {remedy}" in warning.getMessage()
    assert "hush" not in caplog.text


def test_unknown_key_of_the_file_is_an_error_with_a_suggestion(toml: Path) -> None:
    toml.write_text("threds = 3\n")
    message = error_of({"config": str(toml)})
    assert "'threds'" in message
    assert str(toml) in message
    assert "did you mean threads?" in message


def test_table_in_the_file_is_an_unknown_key(toml: Path) -> None:
    toml.write_text("[server]\nport = 3\n")
    assert "'server'" in error_of({"config": str(toml)})


def test_unknown_setting_without_a_similar_name_lists_all_settings() -> None:
    message = error_of({"zzz": 1})
    assert all(setting.name in message for setting in SETTINGS)


def test_variables_of_other_programs_are_ignored() -> None:
    assert load_settings({}, {"CHALKBOARD": "x", "PORT": "y"}) == Settings()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"port = ", "is not valid TOML"), (b'host = "\xff"', "UTF-8"), (None, "cannot be read")],
)
def test_unreadable_settings_file_is_an_error_that_names_it(toml: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        toml.write_bytes(content)
    message = error_of({"config": str(toml)})
    assert reason in message
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
        ("host", " ", "a text that is not empty"),
        ("storage", "", "a text that is not empty"),
        ("public_url", "https://roster.example.org/", "without a trailing slash"),
        ("public_url", "roster.example.org", "http:// or https://"),
        ("public_url", "https://[roster", "http:// or https://"),
        ("trusted_proxy", "proxy.example.org", "an IP address"),
    ],
)
def test_invalid_value_is_an_error_with_name_source_and_rule(name: str, value: str, allowed: str) -> None:
    message = error_of({}, {f"CHALK_{name.upper()}": value})
    assert message.startswith(f"{name} cannot be {value!r} (environment variable CHALK_{name.upper()})")
    assert allowed in message


@pytest.mark.parametrize(
    ("line", "key"),
    [("port = true", "port"), ("port = 1.5", "port"), ("lenient_parent = 1", "lenient_parent"), ("host = 1", "host")],
)
def test_value_of_another_toml_type_is_rejected(toml: Path, line: str, key: str) -> None:
    toml.write_text(line)
    assert error_of({"config": str(toml)}).startswith(f"{key} cannot be")


@pytest.mark.parametrize(
    ("text", "value"),
    [(word, True) for word in ("true", "YES", "1", "on")] + [(word, False) for word in ("false", "No", "0", " off ")],
)
def test_booleans_accept_several_words(text: str, value: bool) -> None:
    assert load_settings({}, {"CHALK_LENIENT_PARENT": text}).lenient_parent is value


@pytest.mark.parametrize("value", ["", "http://localhost:8080", "https://example.org/roster", "http://[::1]:8080"])
def test_public_url_accepts_http_urls_without_trailing_slash(value: str) -> None:
    assert load_settings({"public_url": value}, {}).public_url == value


@pytest.mark.parametrize("value", ["127.0.0.1", "::1", "*", ""])
def test_trusted_proxy_accepts_an_address_or_any(value: str) -> None:
    assert load_settings({"trusted_proxy": value}, {}).trusted_proxy == value


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///chalk.db", "sqlite:///chalk.db"),
        ("sqlite:////var/lib/chalk-flask/chalk.db", "sqlite:////var/lib/chalk-flask/chalk.db"),
        ("postgresql://chalk:pa:s/s@w@db.example/chalk", "postgresql://chalk:***@db.example/chalk"),
        ("postgresql://:only@db.example", "postgresql://:***@db.example"),
        ("postgresql://db/chalk?password=hush&sslmode=require", "postgresql://db/chalk?password=***&sslmode=require"),
        ("postgresql:chalk:hush@db/chalk", "postgresql:chalk:***@db/chalk"),
        ("postgresql:/chalk:hush@db/chalk", "postgresql:/chalk:***@db/chalk"),
        ("memory:", "memory:"),
    ],
)
def test_storage_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_passwords(url) == shown
    settings = load_settings({"storage": url}, {})
    assert {row.name: row.value for row in describe_settings(settings)}["storage"] == shown
    assert settings.storage == url


def test_password_is_neither_in_errors_nor_in_repr() -> None:
    assert "hush" not in repr(load_settings({"storage": "postgresql://chalk:hush@db"}, {}))
    message = error_of({"storage": ["postgresql://chalk:hush@db"]})
    assert "storage" in message
    assert "hush" not in message


def test_settings_have_help_and_unambiguous_names() -> None:
    assert all(setting.help.endswith(".") for setting in SETTINGS)
    assert not [setting.name for setting in SETTINGS if setting.name.endswith("_file") or setting.name == "config"]


def test_defaults_are_valid_values() -> None:
    assert load_settings({setting.name: setting.default for setting in SETTINGS}, {}) == Settings()


def test_example_file_is_generated_from_the_table() -> None:
    assert (ROOT / "config" / "chalk.example.toml").read_text(encoding="utf-8") == example_toml()


def test_uncommented_example_file_contains_every_default(toml: Path) -> None:
    names = {setting.name for setting in SETTINGS}
    lines = [line.removeprefix("# ") for line in example_toml().splitlines()]
    toml.write_text("\n".join(line for line in lines if line.partition(" = ")[0] in names))
    assert list(tomllib.loads(toml.read_text())) == [setting.name for setting in SETTINGS]
    assert load_settings({"config": str(toml)}, {}) == Settings()
