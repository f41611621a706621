"""What an operator decides about imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from chalk_flask.roster.imports.held_files import store_folder
from chalk_flask.roster.imports.thresholds import OFF, Brake
from chalk_flask.roster.package.archive import Limits
from chalk_flask.settings import Settings

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """How a package is read, what brakes it, and where it is held; without `folder` it is refused instead."""

    limits: Limits = field(default_factory=Limits)
    map_roles: bool = False
    tombstone_days: int = 90
    brake: Brake = field(default_factory=Brake)
    folder: Path | None = None

    @classmethod
    def of(cls, settings: Settings, brake: Brake | None = None) -> Options:
        """The options in the settings, with the limits of a tenant."""
        limits = Limits(
            settings.import_max_entries,
            settings.import_max_mb << 20,
            settings.import_max_ratio,
            settings.import_max_field_kb << 10,
        )
        return cls(
            limits, settings.map_enrollment_roles, settings.tombstone_days, brake or Brake(), store_folder(settings)
        )

    def as_dict(self) -> dict[str, Any]:
        """What decides what a package does, the version of this program included, as it is kept with a run."""
        return {
            "mapRoles": self.map_roles,
            "tombstoneDays": self.tombstone_days,
            "limits": asdict(self.limits),
            "version": _version(),
        }

    def as_held(self, kept: Mapping[str, Any]) -> Options:
        """The options under which a package was held, and no brake any more."""
        limits = Limits(**kept["limits"])
        return replace(self, limits=limits, map_roles=kept["mapRoles"], tombstone_days=kept["tombstoneDays"], brake=OFF)


@cache
def _version() -> str:
    try:
        return version("chalk-flask")
    except PackageNotFoundError:
        return ""
