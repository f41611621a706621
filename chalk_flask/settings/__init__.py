"""Settings: one table, read from arguments, the environment and a file. `load` is the entry point."""

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
