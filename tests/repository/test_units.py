"""systemd units beside that of the service: they fit it, and their commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from fnmatch import fnmatchcase

import pytest

from chalk_flask.supervisor.supervisor import DRAIN_SECONDS, HUNG_SECONDS, SILENT_SECONDS
from tests.cli.conftest import RunCommand
from tests.cli.conftest import run as run
from tests.support.paths import ROOT

COMMANDS = ["chalk-flask-backup.service", "chalk-flask-import.service"]
"""Units that run a command beside the service."""


def unit(name: str) -> list[tuple[str, str]]:
    """Return the settings of a unit, in order."""
    lines = (ROOT / "config" / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return [(key, value) for key, _, value in pairs]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_works_on_the_store_of_the_service_as_its_user(name: str) -> None:
    command, service = unit(name), unit("chalk-flask.service")
    shared = {("User", "chalk-flask"), ("UMask", "0077"), ("StateDirectoryMode", "0700")}
    shared |= {pair for pair in service if pair[0] == "Environment" and "CHALK_TRUSTED_PROXY" not in pair[1]}
    assert shared <= {*command} & {*service}
    assert ("EnvironmentFile", "-/etc/chalk-flask.env") in command
    # If one unit has DynamicUser=yes and another one has not, systemd moves the store while the other one uses it.
    assert not [key for key, _ in command + service if key == "DynamicUser"]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_as_confined_as_the_service(name: str) -> None:
    confined = {pair for pair in unit("chalk-flask.service") if pair[0].startswith(("Protect", "Restrict", "Private"))}
    missing = {key for key, _ in confined - {*unit(name)}}
    assert missing <= {"RestrictAddressFamilies"}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_of_the_unit_is_accepted(name: str, run: RunCommand) -> None:
    [command] = [value for key, value in unit(name) if key == "ExecStart"]
    program, *arguments = shlex.split(command)
    assert program.endswith("/chalk-flask")
    folders = {"/var/lib/chalk-flask-backups": ".", "/srv/sis/incoming": "missing"}
    result = run(*(folders.get(argument, argument) for argument in arguments))
    assert result.code == 1 or "there is no folder" in result.err, "the options are known"


def test_service_is_ready_reloads_and_stops_as_systemd_expects() -> None:
    service = dict(unit("chalk-flask.service"))
    assert (service["Type"], service["ExecReload"]) == ("notify", "/bin/kill -HUP $MAINPID")
    # systemd must not send SIGTERM to the serving processes too: a second signal ends their requests.
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > DRAIN_SECONDS
    assert int(service["WatchdogSec"]) > HUNG_SECONDS + SILENT_SECONDS


def test_import_may_write_to_the_folder_that_it_watches() -> None:
    service = dict(unit("chalk-flask-import.service"))
    folder = service["ReadWritePaths"]
    assert f"--watch {folder} --once" in service["ExecStart"]
    pattern = dict(unit("chalk-flask-import.path"))["PathExistsGlob"]
    assert all(fnmatchcase(f"{folder}/{name}", pattern) for name in ("district.zip", "DISTRICT.ZIP"))
    assert not fnmatchcase(f"{folder}/district.zip.part", pattern)
    assert dict(unit("chalk-flask-import.timer"))["OnCalendar"] == "hourly"


def test_timer_of_the_backup_names_one_time_of_each_day() -> None:
    [time] = [value for key, value in unit("chalk-flask-backup.timer") if key == "OnCalendar"]
    assert re.fullmatch(r"\*-\*-\* ([01]\d|2[0-3]):[0-5]\d", time), "the form is that of systemd.time(7)"


def test_failed_import_does_not_reach_the_limit_of_starts() -> None:
    service = unit("chalk-flask-import.service")
    assert ("Wants", "chalk-flask-import.path") in service, "the hourly start by the timer repairs the path unit"
    [command] = [value for key, value in service if key == "ExecStopPost"]
    shell = [argument.replace("sleep 30", "exit 30") for argument in shlex.split(command)]
    codes = [subprocess.run(shell, env={"SERVICE_RESULT": result}).returncode for result in ("success", "exit-code")]
    assert codes == [0, 30], "DefaultStartLimitIntervalSec is 10 seconds, so one start in 30 seconds is below the limit"
    assert int(dict(service)["TimeoutStopSec"]) > 30
