"""Packages that the contract runner uploads: some are applied, others held or rejected, and some are no ZIP files."""

from __future__ import annotations

from importlib.resources import files

from hypothesis import strategies

from tests.support.packages import PackageBuilder, delta_package, small_row

__all__ = ["PACKAGES", "package_strategy"]

DEMO = files("chalk_flask") / "demo"


def _demo_package() -> PackageBuilder:
    """Return the sample district as a package."""
    package = PackageBuilder().only()
    package.raw = {each.name: each.read_bytes() for each in DEMO.iterdir() if each.name.endswith(".csv")}
    return package


def _delta(number: int) -> PackageBuilder:
    """Return a package that creates or changes a user of the sample district."""
    user = small_row("users", "teacher-1", sourcedId=f"user-{number}", username=f"user-{number}")
    return delta_package(users=[user | {"orgSourcedIds": "org-north"}])


PACKAGES: tuple[bytes, ...] = (
    _demo_package().zip_bytes(),
    *(_delta(number).zip_bytes() for number in range(3)),
    PackageBuilder().zip_bytes(),
    PackageBuilder().only("users").zip_bytes(),
    PackageBuilder().set("users", "pupil-1", enabledUser="perhaps").zip_bytes(),
    PackageBuilder().zip_bytes()[:-30],
)
"""Bodies of uploads. The last one is cut off."""


def package_strategy() -> strategies.SearchStrategy[bytes]:
    """Return the strategy for bodies of uploads: mostly packages, else random bytes."""
    return strategies.sampled_from(PACKAGES) | strategies.binary(min_size=1, max_size=100)
