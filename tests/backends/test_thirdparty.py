"""Tests of the example of the backend guide: it is installed, loaded by its entry point, and passes the suite."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.paths import DATA, ROOT

EXAMPLE = DATA / "thirdparty"
GUIDE = ROOT / "docs" / "how-to" / "write-a-backend.md"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the example, because the build writes files beside the sources."""
    return shutil.copytree(
        EXAMPLE, tmp_path_factory.mktemp("thirdparty") / "project", ignore=shutil.ignore_patterns("__pycache__")
    )


@pytest.fixture(scope="module")
def environment(project: Path) -> dict[str, str]:
    """Return the environment of a process with the example installed."""
    site = project.parent / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(site), str(project)], check=True, timeout=120)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}


def test_installed_backend_is_listed_and_opened_by_its_scheme(
    project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    script = f"""
from backends import Record, installed_backends, open_store, store_exists
from backends.testing import COLLECTIONS
url = "onefile:///{tmp_path}/roster.json"
print(installed_backends()["onefile"], store_exists(url))
with open_store(url, COLLECTIONS) as store, store.write("t") as transaction:
    transaction.put("people", [Record("a", b"1")])
with open_store(url, COLLECTIONS) as store, store.read("t") as at:
    print(type(store).__name__, at.get_many("people", ["a"]), store_exists(url))
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout.splitlines() == [
        "chalk_onefile:OneFileBackend False",
        "OneFileBackend {'a': b'1'} True",
    ]


@pytest.mark.slow
def test_example_passes_the_suite_with_2000_generated_queries(
    project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", f"--junitxml={report}"]
    run = subprocess.run(
        command, cwd=project, env=environment, check=False, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stdout
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    assert int(suite.attrib["tests"]) > 80
    assert int(suite.attrib["skipped"]) == 0
    (count,) = suite.iterfind("properties/property[@name='generated queries, TestOneFile']")
    assert int(count.attrib["value"]) >= 2000


@pytest.mark.parametrize("name", ["pyproject.toml", "chalk_onefile.py", "conftest.py", "test_onefile.py"])
def test_guide_shows_the_files_of_the_example(name: str) -> None:
    blocks = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL))
    assert blocks[name] == (EXAMPLE / name).read_text()
