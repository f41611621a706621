"""systemd units of the nightly backup: they fit the unit of the service, and their command exists."""

from __future__ import annotations

import re
import shlex

from tests.cli.conftest import RunCommand
from tests.cli.conftest import run as run
from tests.support.paths import ROOT


def unit(name: str) -> list[tuple[str, str]]:
    """Return the settings of a unit, in order."""
    lines = (ROOT / "config" / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return [(key, value) for key, _, value in pairs]


def test_backup_works_on_the_store_of_the_service_as_its_user() -> None:
    backup, service = unit("chalk-flask-backup.service"), unit("chalk-flask.service")
    shared = {("User", "chalk-flask"), ("DynamicUser", "yes"), ("UMask", "0077"), ("StateDirectoryMode", "0700")}
    shared |= {pair for pair in service if pair[0] == "Environment" and "CHALK_TRUSTED_PROXY" not in pair[1]}
    assert shared <= {*backup} & {*service}
    assert ("EnvironmentFile", "-/etc/chalk-flask.env") in backup


def test_backup_is_as_confined_as_the_service() -> None:
    own = {"ExecStart", "Environment", "Nice", "IOSchedulingClass", "Type", "StateDirectory", "RestrictAddressFamilies"}
    confined = {pair for pair in unit("chalk-flask.service") if pair[0].startswith(("Protect", "Restrict", "Private"))}
    missing = {key for key, _ in confined - {*unit("chalk-flask-backup.service")}}
    assert missing <= own


def test_command_of_the_unit_is_accepted(run: RunCommand) -> None:
    [command] = [value for key, value in unit("chalk-flask-backup.service") if key == "ExecStart"]
    program, *arguments = shlex.split(command)
    assert program.endswith("/chalk-flask")
    result = run(*(argument.replace("/var/lib/chalk-flask-backups", ".") for argument in arguments))
    assert result.code == 1, "the options are known, but there is no store"


def test_timer_names_one_time_of_each_day() -> None:
    [time] = [value for key, value in unit("chalk-flask-backup.timer") if key == "OnCalendar"]
    assert re.fullmatch(r"\*-\*-\* ([01]\d|2[0-3]):[0-5]\d", time), "the form is that of systemd.time(7)"
