"""Script `config/chalk-flask-run`: commands run as the user of the unit, with its settings.

systemd does not run where the tests run. So the programs `systemctl` and `systemd-run` are replaced by scripts: the
first one answers from the unit file, the second one prints its arguments.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SCRIPT = ROOT / "config" / "chalk-flask-run"
UNIT = ROOT / "config" / "chalk-flask.service"

SYSTEMCTL = r"""#!/bin/sh
name=${2#--property=}
case $name in
    LoadState) echo "${LOAD_STATE:-loaded}" ;;
    Environment) sed -n 's/^Environment=//p' "$UNIT" | paste -sd ' ' ;;
    EnvironmentFiles) sed -n 's/^EnvironmentFile=-\(.*\)/\1 (ignore_errors=yes)/p' "$UNIT" ;;
    WorkingDirectory) echo /var/lib/chalk-flask ;;
    *) sed -n "s/^$name=//p" "$UNIT" ;;
esac
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Environment with the scripts, in which the user is root."""
    scripts = {"systemctl": SYSTEMCTL, "systemd-run": "#!/bin/sh\nprintf '%s\\n' \"$@\"\n", "id": "#!/bin/sh\necho 0\n"}
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "UNIT": str(UNIT)}


def run(environ: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *args], env=environ, capture_output=True, text=True, check=False)


def test_command_runs_as_the_user_of_the_unit_with_its_settings(environ: dict[str, str]) -> None:
    result = run(environ, "token", "create", "--label", "Reading app")
    assert result.returncode == 0, result.stderr
    lines = UNIT.read_text().splitlines()
    program = next(line for line in lines if line.startswith("ExecStart=")).removeprefix("ExecStart=").split()[0]
    settings = " ".join(line.removeprefix("Environment=") for line in lines if line.startswith("Environment="))
    arguments = result.stdout.splitlines()
    assert arguments[-5:] == [program, "token", "create", "--label", "Reading app"]
    assert arguments[:4] == ["--quiet", "--collect", "--wait", "--pipe"]
    assert set(arguments[4:-5]) == {
        "--property=User=chalk-flask",
        "--property=StateDirectory=chalk-flask",
        "--property=StateDirectoryMode=0700",
        "--property=UMask=0077",
        "--property=WorkingDirectory=/var/lib/chalk-flask",
        f"--property=Environment={settings}",
        "--property=EnvironmentFile=-/etc/chalk-flask.env",
    }


def test_failed_command_explains_a_file_that_only_root_finds(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "district.zip").write_bytes(b"")
    (tmp_path / "runuser").write_text("#!/bin/sh\nexit 1\n")
    run_program = tmp_path / "systemd-run"
    run_program.write_text("#!/bin/sh\nexit 1\n")
    for script in ("runuser", "systemd-run"):
        (tmp_path / script).chmod(0o755)
    for name in ("./district.zip", str(tmp_path / "district.zip")):
        command = [str(SCRIPT), "import", name]
        result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert "ran as the user chalk-flask in /var/lib/chalk-flask" in result.stderr
        assert f"could not read '{name}', give - instead" in result.stderr
    assert run(environ, "import", "missing.zip").stderr == ""
    run_program.write_text("#!/bin/sh\n")
    assert subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=True).stderr == b""


def test_missing_unit_and_other_users_are_reported(environ: dict[str, str], tmp_path: Path) -> None:
    assert "there is no unit chalk-flask.service" in run(environ | {"LOAD_STATE": "not-found"}, "token").stderr
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    result = run(environ, "token")
    assert (result.returncode, result.stdout) == (1, "")
    assert "run this as root" in result.stderr


def test_completion_asks_the_program_itself(environ: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nprintf \'%s\\n\' "$_CHALK_FLASK_COMPLETE" "$COMP_CWORD"\n')
    program.chmod(0o755)
    script = tmp_path / "chalk-flask"
    script.write_text(SCRIPT.read_text().replace("program=/opt/chalk-flask/bin/chalk-flask", f"program={program}"))
    asked = environ | {"_CHALK_FLASK_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    result = subprocess.run(["sh", script], env=asked, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["bash_complete", "1"], "without systemd-run"
