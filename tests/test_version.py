"""Version of the package, and its lazy import."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from operator import attrgetter

import pytest

import chalk_flask


def test_version_is_that_of_the_installed_package() -> None:
    assert chalk_flask.__version__ == metadata.version("chalk-flask")


def test_version_is_empty_when_the_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.delitem(vars(chalk_flask), "__version__", raising=False)
    monkeypatch.setattr(metadata, "version", missing)
    assert chalk_flask.__version__ == ""
    monkeypatch.delitem(vars(chalk_flask), "__version__")


def test_module_has_no_other_lazy_attributes() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        attrgetter("nonsense")(chalk_flask)


@pytest.mark.slow
def test_import_of_the_package_reads_no_metadata() -> None:
    code = "import sys, chalk_flask; sys.exit('importlib.metadata' in sys.modules or 'flask' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
