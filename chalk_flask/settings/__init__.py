"""Settings of an operator, from command line arguments, environment variables and a TOML file.

`load_settings` reads all of them into a `Settings` object. The table SETTINGS describes each setting; command line
options, `config show` and the example file are generated from it.
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
