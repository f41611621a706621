"""Options of an import that the operator configures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import chalk_flask
from chalk_flask.oneroster.csv.tolerances import parse_role_map
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.roster.imports.thresholds import DISABLED, ChangeThresholds
from chalk_flask.roster.package.archive import ArchiveLimits
from chalk_flask.roster.package.data_file import ReadingOptions
from chalk_flask.settings import Settings, SettingsError

__all__ = ["ImportOptions", "InvalidRows"]

InvalidRows: TypeAlias = Literal["reject", "quarantine"]
"""Treatment of invalid rows: they reject the package, or they are set aside and the others are applied."""


@dataclass(frozen=True)
class ImportOptions:
    """Limits, interpretation of the package, thresholds, and the folder for held packages.

    Without `folder`, a package that exceeds a threshold is rejected. With `strict`, references to records of the wrong
    type, similar contradictions and placeholders are errors.
    """

    limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    tombstone_days: int = 90
    thresholds: ChangeThresholds = field(default_factory=ChangeThresholds)
    folder: Path | None = None
    invalid_rows: InvalidRows = "reject"
    strict: bool = False

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        thresholds: ChangeThresholds | None = None,
        *,
        lenient: bool = False,
        invalid_rows: InvalidRows = "reject",
        strict: bool = False,
    ) -> ImportOptions:
        """Return the options of the settings. The other arguments are those of a tenant or of one import."""
        limits = ArchiveLimits(
            settings.import_max_entries,
            settings.import_max_mb << 20,
            settings.import_max_ratio,
            settings.import_max_field_kb << 10,
        )
        return cls(
            limits,
            ReadingOptions(lenient, settings.map_enrollment_roles, _role_map(settings)),
            settings.tombstone_days,
            thresholds or ChangeThresholds(),
            store_folder(settings),
            invalid_rows,
            strict,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object stored with a run: the options that affect the result, and the program version."""
        return {
            "mapRoles": self.reading.map_enrollment_roles,
            "roleMap": dict(self.reading.role_map),
            "lenient": self.reading.lenient,
            "tombstoneDays": self.tombstone_days,
            "invalidRows": self.invalid_rows,
            "strict": self.strict,
            "limits": asdict(self.limits),
            "version": chalk_flask.__version__,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], folder: Path) -> ImportOptions:
        """Return the options that `to_dict` wrote when a package was held in this folder, but without thresholds."""
        return cls(
            ArchiveLimits(**data["limits"]),
            ReadingOptions(data.get("lenient", False), data["mapRoles"], data.get("roleMap", {})),
            data["tombstoneDays"],
            DISABLED,
            folder,
            data.get("invalidRows", "reject"),
            data.get("strict", False),
        )


def _role_map(settings: Settings) -> Mapping[str, str]:
    try:
        return parse_role_map(settings.import_role_map)
    except ValueError as error:
        message = f"import_role_map cannot be {settings.import_role_map!r}: it must be {error}"
        raise SettingsError(message) from error
