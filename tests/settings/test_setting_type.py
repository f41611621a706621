"""Settings whose values are secrets: parsed like others, and never shown."""

from __future__ import annotations

from chalk_flask.settings import SETTINGS, Setting
from chalk_flask.settings.setting_type import SettingInfo, SettingSection

SECRET = Setting("client_secret", "", SettingInfo(SettingSection.API, "Secret.", secret=True))


def test_secret_is_parsed_and_shown_as_asterisks() -> None:
    assert SECRET.parse(" s3cr?t=value@host ") == "s3cr?t=value@host"
    for value in ("hush", "https://user:hush@host", 4711, ["hush"]):
        assert SECRET.to_text(value) == "***"


def test_missing_secret_is_shown_as_empty() -> None:
    assert SECRET.to_text("") == ""


def test_password_in_a_url_is_replaced_and_the_rest_is_shown() -> None:
    setting = Setting("storage", "", SettingInfo(SettingSection.STORE, "URL.", has_passwords=True))
    assert setting.to_text("postgresql://chalk:hush@db/chalk") == "postgresql://chalk:***@db/chalk"
    assert (
        Setting("host", "", SettingInfo(SettingSection.SERVER, "Host.")).to_text("//user:shown@host")
        == "//user:shown@host"
    )


def test_summary_is_the_first_sentence() -> None:
    by_name = {setting.name: setting for setting in SETTINGS}
    assert by_name["port"].summary == by_name["port"].help == "TCP port to listen on; 0 chooses a free one."
    assert by_name["smtp_user"].summary == "User name at the mail server."


def test_settings_of_a_section_have_its_name() -> None:
    sections = {setting.name: setting.info.section for setting in SETTINGS}
    assert sections["storage"] == "Store"
    assert sections["smtp_host"] == sections["mail_from"] == "Mail"
    assert set(sections.values()) == set(SettingSection)
