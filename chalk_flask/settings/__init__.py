"""Settings: one table, read from arguments, the environment and a file. `load` is the entry point."""

from chalk_flask.settings.loader import (
    SETTINGS,
    BadSettings,
    Described,
    Setting,
    Settings,
    describe,
    example_toml,
    load,
)

__all__ = ["SETTINGS", "BadSettings", "Described", "Setting", "Settings", "describe", "example_toml", "load"]
