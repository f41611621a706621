"""What an operator decides about imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from chalk_flask.roster.imports.held_files import store_folder
from chalk_flask.roster.imports.thresholds import DISABLED, ChangeThresholds
from chalk_flask.roster.package.archive import ArchiveLimits
from chalk_flask.settings import Settings

__all__ = ["ImportOptions"]


@dataclass(frozen=True)
class ImportOptions:
    """How a package is read, what brakes it, and where it is held; without `folder` it is refused instead."""

    limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    map_roles: bool = False
    tombstone_days: int = 90
    thresholds: ChangeThresholds = field(default_factory=ChangeThresholds)
    folder: Path | None = None

    @classmethod
    def from_settings(cls, settings: Settings, brake: ChangeThresholds | None = None) -> ImportOptions:
        """The options in the settings, with the limits of a tenant."""
        limits = ArchiveLimits(
            settings.import_max_entries,
            settings.import_max_mb << 20,
            settings.import_max_ratio,
            settings.import_max_field_kb << 10,
        )
        return cls(
            limits,
            settings.map_enrollment_roles,
            settings.tombstone_days,
            brake or ChangeThresholds(),
            store_folder(settings),
        )

    def to_dict(self) -> dict[str, Any]:
        """What decides what a package does, the version of this program included, as it is kept with a run."""
        return {
            "mapRoles": self.map_roles,
            "tombstoneDays": self.tombstone_days,
            "limits": asdict(self.limits),
            "version": _version(),
        }

    def as_held(self, kept: Mapping[str, Any]) -> ImportOptions:
        """The options under which a package was held, and no brake any more."""
        limits = ArchiveLimits(**kept["limits"])
        return replace(
            self, limits=limits, map_roles=kept["mapRoles"], tombstone_days=kept["tombstoneDays"], thresholds=DISABLED
        )


@cache
def _version() -> str:
    try:
        return version("chalk-flask")
    except PackageNotFoundError:
        return ""
