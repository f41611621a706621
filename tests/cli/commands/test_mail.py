"""Commands `mail test` and `admin mail`, and mail of a running service."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import RunCommand, StartCommand, stop_process
from tests.support.deliveries import wait_until
from tests.support.mail.mail_server import PASSWORD, SENDER, MailServer, run_mail_server
from tests.support.packages import PackageBuilder
from tests.support.server_process import read_until

TO = "it-office@example.org"


def variables(mail: MailServer) -> dict[str, str]:
    return {f"CHALK_{name.upper()}": str(value) for name, value in mail.settings.items()}


def test_test_message_arrives(run: RunCommand) -> None:
    with run_mail_server() as mail:
        result = run("mail", "test", "--to", TO, env=variables(mail))
        assert result.code == 0
        assert "has accepted the test message" in result.out
        assert run("mail", "test", "--to", TO, "--json", env=variables(mail)).json["sent"] is True
        assert [to for to, _ in mail.received()] == [TO, TO]


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"CHALK_SMTP_HOST": ""}, 1, "smtp_host is not set"),
        ({"CHALK_MAIL_FROM": ""}, 2, "smtp_host requires mail_from"),
        ({"CHALK_MAIL_FROM": "a@b\nBcc: c@d"}, 2, "mail_from cannot be"),
        ({"CHALK_SMTP_PORT": "1"}, 1, "refuses the connection: check smtp_host and smtp_port"),
        ({"CHALK_SMTP_SECURITY": "starttls"}, 1, "does not offer STARTTLS"),
        ({"CHALK_SMTP_SECURITY": "ssl"}, 2, "it must be one of starttls, tls, none"),
        ({"CHALK_SMTP_USER": "me", "CHALK_SMTP_PASSWORD": PASSWORD}, 2, "the password must not be sent in plain text"),
    ],
)
def test_failure_is_explained(changes: dict[str, str], code: int, message: str, run: RunCommand) -> None:
    with run_mail_server() as mail:
        result = run("mail", "test", "--to", TO, env=variables(mail) | changes)
        assert (result.code, mail.messages) == (code, [])
    assert message in " ".join(result.err.split())
    assert PASSWORD not in result.err


def test_rejected_recipient_is_explained(run: RunCommand) -> None:
    with run_mail_server() as mail:
        mail.rejected[TO] = f"550 5.1.1 <{TO}> is unknown"
        result = run("mail", "test", "--to", TO, env=variables(mail))
    assert (result.code, "(code 550 5.1.1): check --to" in result.err, TO in result.err) == (1, True, False)


@pytest.mark.parametrize("address", ["", "kim", "kim@example.org\nBcc: a@b"])
def test_invalid_recipient_is_a_usage_error(address: str, run: RunCommand) -> None:
    assert run("mail", "test", "--to", address).code == 2


def test_password_is_never_shown(run: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    env = {"CHALK_SMTP_PASSWORD_FILE": str(tmp_path / "password")}
    assert PASSWORD not in run("config", "show", "--json", env=env).out
    assert run("mail", "test", "--to", TO, "--smtp-password", PASSWORD).code == 2


@pytest.mark.usefixtures("empty_store")
def test_admin_mail_changes_the_choice(run: RunCommand) -> None:
    run("admin", "create", "kim")
    assert "No mail is sent to kim." in run("admin", "mail", "kim").out
    changed = run("admin", "mail", "kim", "--address", "kim@example.org", "--digest", "--json").json["mail"]
    assert changed == {
        "address": "kim@example.org",
        "events": ["import.held", "import.rejected", "import.overdue"],
        "digest": True,
    }
    changed = run("admin", "mail", "kim", "--event", "import.committed", "--no-digest", "--json").json["mail"]
    assert changed == {"address": "kim@example.org", "events": ["import.committed"], "digest": False}
    assert run("admin", "mail", "kim", "--event", "none", "--json").json["mail"]["events"] == []
    assert "events   none" in run("admin", "mail", "kim").out
    assert run("admin", "mail", "kim", "--off", "--json").json["mail"]["address"] == ""
    entries = run("audit", "--json").json["entries"]
    assert [entry.get("change") for entry in entries] == [None, "mail", "mail", "mail", "mail"]
    assert "kim@example.org" not in run("audit", "--json").out


@pytest.mark.usefixtures("empty_store")
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--address", "kim"), 2, "--address: enter an e-mail address"),
        (("--event", "import.lost"), 2, "--event: unknown event 'import.lost'"),
        (("--off", "--digest"), 2, "--off deletes the address"),
    ],
)
def test_invalid_choice_changes_nothing(options: tuple[str, ...], code: int, message: str, run: RunCommand) -> None:
    before = run("admin", "create", "kim", "--json").json["mail"]
    result = run("admin", "mail", "kim", *options)
    assert (result.code, message in result.err) == (code, True)
    assert run("admin", "mail", "kim", "--json").json["mail"] == before


@pytest.mark.slow
def test_service_sends_mail_about_a_rejected_import(run: RunCommand, start: StartCommand, tmp_path: Path) -> None:
    assert run("import", PackageBuilder().zip(tmp_path / "base.zip")).code == 0
    run("admin", "create", "kim")
    run("admin", "mail", "kim", "--address", TO)
    with run_mail_server() as mail, start("serve", "--port", "0", env=variables(mail)) as server:
        read_until(server.stderr, "Listening on")
        rejected = PackageBuilder().set("users", "pupil-1", role="pilot").zip(tmp_path / "rejected.zip")
        assert run("import", rejected).code == 1
        wait_until(lambda: mail.messages)
        assert mail.received() == [(TO, "[default] import rejected")]
        assert mail.messages[0]["From"] == SENDER
        assert stop_process(server) == 0


@pytest.mark.slow
def test_silent_mail_server_delays_neither_imports_nor_the_end(
    run: RunCommand, start: StartCommand, tmp_path: Path
) -> None:
    assert run("import", PackageBuilder().zip(tmp_path / "base.zip")).code == 0
    run("admin", "create", "kim")
    run("admin", "mail", "kim", "--address", TO, "--event", "import.committed")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings: dict[str, Any] = MailServer(port=silent.getsockname()[1]).settings
        env = {f"CHALK_{name.upper()}": str(value) for name, value in settings.items()}
        changed = PackageBuilder().set("orgs", "org-2", name="North").zip(tmp_path / "changed.zip")
        assert run("import", changed).code == 0
        with start("serve", "--port", "0", env=env) as server:
            read_until(server.stderr, "Listening on")
            silent.settimeout(60)
            stream, _ = silent.accept()
            with stream:
                assert run("import", PackageBuilder().zip(tmp_path / "base.zip")).code == 0
                started = time.monotonic()
                assert stop_process(server) == 0
                assert time.monotonic() - started < 20
