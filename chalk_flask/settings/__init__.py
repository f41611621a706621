"""Settings of the operator. Command line arguments, environment variables and a TOML file go in.

`load_settings` is the entry point and returns a `Settings` object. The table SETTINGS describes every setting. Command
line options, `config show` and the example file are generated from it.
"""

from chalk_flask.settings.loader import (
    SettingsError,
    SettingValue,
    describe_settings,
    example_toml,
    load_settings,
    parse_setting,
)
from chalk_flask.settings.process_count import process_count
from chalk_flask.settings.setting_type import Setting, SettingSection
from chalk_flask.settings.table import SETTINGS, Settings

__all__ = [
    "SETTINGS",
    "Setting",
    "SettingSection",
    "SettingValue",
    "Settings",
    "SettingsError",
    "describe_settings",
    "example_toml",
    "load_settings",
    "parse_setting",
    "process_count",
]
