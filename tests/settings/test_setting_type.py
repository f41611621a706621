"""Settings whose values are secrets: parsed like others, and never shown."""

from __future__ import annotations

from chalk_flask.settings import Setting

SECRET = Setting("client_secret", "", "Secret.", secret=True)


def test_secret_is_parsed_and_shown_as_asterisks() -> None:
    assert SECRET.parse(" s3cr?t=value@host ") == "s3cr?t=value@host"
    for value in ("hush", "https://user:hush@host", 4711, ["hush"]):
        assert SECRET.to_text(value) == "***"


def test_missing_secret_is_shown_as_empty() -> None:
    assert SECRET.to_text("") == ""


def test_password_in_a_url_is_replaced_and_the_rest_is_shown() -> None:
    setting = Setting("storage", "", "URL.", has_passwords=True)
    assert setting.to_text("postgresql://chalk:hush@db/chalk") == "postgresql://chalk:***@db/chalk"
    assert Setting("host", "", "Host.").to_text("//user:shown@host") == "//user:shown@host"
