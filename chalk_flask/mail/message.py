"""Messages in plain text: notices, digests and the test message. They contain ids, counts and reasons only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final

from chalk_flask.mail.server_settings import MailServerSettings
from chalk_flask.notices import DIGEST, Notice, Recipient
from chalk_flask.outbox.event import IMPORT_COMMITTED, IMPORT_HELD, IMPORT_OVERDUE, IMPORT_REJECTED
from chalk_flask.times import utc_now

__all__ = ["build_notice_message", "build_test_message"]

_SUBJECTS: Final = {
    IMPORT_COMMITTED: "roster imported",
    IMPORT_HELD: "import held for approval",
    IMPORT_REJECTED: "import rejected",
    IMPORT_OVERDUE: "import overdue",
    DIGEST: "imports of the day",
}
_SENTENCES: Final = {
    IMPORT_COMMITTED: "An import changed the roster.",
    IMPORT_HELD: "A package exceeds a change threshold and waits for approval. The roster was not changed.",
    IMPORT_REJECTED: "A package was rejected because of its errors. The roster was not changed.",
    IMPORT_OVERDUE: "The last import is older than the limit. The roster may be out of date.",
    DIGEST: "These are the imports since the last digest.",
}
MAX_LINE_LENGTH: Final = 300


def build_notice_message(server: MailServerSettings, tenant: str, notice: Notice, recipient: Recipient) -> EmailMessage:
    """Return the message of a notice to a recipient. Its `Message-ID` is the same at each attempt."""
    subject = f"[{tenant}] {_SUBJECTS[notice.event]}"
    message_id = f"<{notice.key.translate(_ID_CHARACTERS)}.{recipient.id}@{server.sender_domain}>"
    lines = [
        _SENTENCES[notice.event],
        "",
        f"Tenant: {tenant}",
        *(_digest_lines(notice.details) if notice.event == DIGEST else _outcome_lines(notice)),
        "",
        *_link_lines(server, notice),
        *_choice_lines(server),
    ]
    return _message(server, recipient.address, subject, lines, message_id)


def build_test_message(server: MailServerSettings, recipient: str) -> EmailMessage:
    """Return the message of `chalk-flask mail test`."""
    lines = ["This message shows that the mail settings of your roster service work.", "No action is required."]
    return _message(server, recipient, "Test message of your roster service", lines)


_ID_CHARACTERS: Final = str.maketrans(":+", "--")


def _message(
    server: MailServerSettings, recipient: str, subject: str, lines: Iterable[str], message_id: str = ""
) -> EmailMessage:
    message = EmailMessage()
    message["From"] = Address(server.sender_name, addr_spec=server.sender)
    message["To"] = Address(addr_spec=recipient)
    message["Subject"] = _one_line(subject)
    message["Date"] = format_datetime(utc_now())
    if message_id:
        message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies
    message.set_content("\n".join(map(_one_line, lines)) + "\n")
    return message


def _outcome_lines(notice: Notice) -> list[str]:
    details = notice.details
    lines = [f"Time: {_shown_time(notice.created)}", f"Import: {notice.run}"]
    if "last" in details:
        return [*lines, f"Last import: {_shown_time(details['last'])}", f"Limit: {details['hours']} hours"]
    if "expires" in details:
        lines.append(f"Approve it before: {_shown_time(details['expires'])}")
    if details.get("quarantined"):
        lines.append(f"Quarantined rows: {details['quarantined']:,}")
    if "problems" in details:
        lines.append(f"Errors: {details['problems']:,}")
    if "counts" in details:
        lines.append(f"Records: {_counts_text(details['counts'])}")
    return lines + ([] if not details.get("reasons") else ["", "Reasons:", *(f"- {r}" for r in details["reasons"])])


def _digest_lines(details: Mapping[str, Any]) -> list[str]:
    period = f"From {_shown_time(details['since'])} to {_shown_time(details['until'])}"
    runs = [
        f"- {_shown_time(run['started'])}  {run['state']}  {run['id']}  {_counts_text(run['counts'])}"
        for run in details["runs"]
    ]
    more = [f"- and {details['more']:,} more"] if details["more"] else []
    return [period, "", *(runs or ["No package was imported."]), *more]


def _counts_text(counts: Mapping[str, int]) -> str:
    shown = [f"{count:,} {name}" for name, count in counts.items() if count]
    return ", ".join(shown) or "none"


def _link_lines(server: MailServerSettings, notice: Notice) -> list[str]:
    path, command = ("/imports", "list") if notice.run is None else (f"/imports/{notice.run}", f"show {notice.run}")
    link = [f"Details in the admin console: {server.console_url}{path}"] if server.console_url else []
    return [*link, f"On the machine of the service: chalk-flask imports {command}", ""]


def _choice_lines(server: MailServerSettings) -> list[str]:
    place = f"at {server.console_url}/account" if server.console_url else "on the page Your account of the console"
    return [
        "You get this message because it is chosen in your account as an administrator.",
        f"Change or stop these messages {place}, or with: chalk-flask admin mail NAME --off",
    ]


def _shown_time(timestamp: str) -> str:
    return f"{timestamp[:10]} {timestamp[11:16]} UTC"


def _one_line(text: str) -> str:
    """Return the text with `?` for each control character, so that none can end a header or a line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:MAX_LINE_LENGTH]
