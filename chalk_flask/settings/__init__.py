"""Settings of the operator. Command line arguments, environment variables and a TOML file go in.

`load_settings` is the entry point and returns a `Settings` object. The table SETTINGS describes every setting. Command
line options, `config show` and the example file are generated from it.
"""

from chalk_flask.settings.loader import (
    SETTINGS,
    Setting,
    Settings,
    SettingsError,
    SettingValue,
    describe_settings,
    example_toml,
    load_settings,
)

__all__ = [
    "SETTINGS",
    "Setting",
    "SettingValue",
    "Settings",
    "SettingsError",
    "describe_settings",
    "example_toml",
    "load_settings",
]
