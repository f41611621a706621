"""Software bill of materials: `./run sbom` lists each pinned package with its version and its hashes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from typing import Any

import pytest

from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Document that `./run sbom` writes. Its function runs with the packages of this environment."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("run", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    function = re.search(r"^sbom\(\) \{\n.*?^\}", (ROOT / "run").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert function
    script = f"set -eu; python={sys.executable}; say() {{ :; }}\n{function[0]}\nsbom"
    completed = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60)
    assert (completed.returncode, completed.stderr) == (0, "")
    document: dict[str, Any] = json.loads((folder / "build" / "chalk-flask.cdx.json").read_text())
    return document


def test_sbom_has_each_pin_with_its_hashes(sbom: dict[str, Any]) -> None:
    found = {
        (component["name"], component["version"], component["purl"]): sorted(
            each["content"] for reference in component["externalReferences"] for each in reference["hashes"]
        )
        for component in sbom["components"]
    }
    pins = re.findall(r"^(\S+)==([0-9.]+)((?:.*\\\n)*.*)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert len(pins) > 40
    assert found == {
        (name, version, f"pkg:pypi/{name.lower()}@{version}"): sorted(re.findall(r"sha256:([0-9a-f]{64})", rest))
        for name, version, rest in pins
    }


def test_sbom_describes_this_version(sbom: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    described = sbom["metadata"]["component"]
    assert (described["name"], described["version"]) == (project["name"], project["version"])
    assert described["licenses"][0]["license"]["id"] == project["license"]
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    assert "timestamp" not in sbom["metadata"], "two documents of one version are equal"
