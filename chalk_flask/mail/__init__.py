"""Mail to administrators: notices about imports and the daily digest, sent by SMTP.

The notices of the store and the settings of the mail server go in. Messages in plain text, without personal data of the
roster, come out. `MailWorker` is the entry point: it sends in the background while it holds the leader lock.
`MailConnection` sends one message, for `chalk-flask mail test`.
"""

from chalk_flask.mail.connection import MailConnection, MailError, RecipientError
from chalk_flask.mail.message import build_test_message
from chalk_flask.mail.server_settings import MailServerSettings
from chalk_flask.mail.worker import MailWorker

__all__ = ["MailConnection", "MailError", "MailServerSettings", "MailWorker", "RecipientError", "build_test_message"]
