"""Notices about imports, stored until the mail worker has sent them to administrators.

The outcome of an import goes in, with counts and reasons, without any cell of its package. Notices come out, and the
recipients of each by the mail preferences of administrators. `enqueue_notice` is the entry point: it stores a notice in
the transaction of the outcome. `wanted_events` says which notices have a recipient.
"""

from chalk_flask.notices.notice import DIGEST, NOTICE_EVENTS, Notice
from chalk_flask.notices.preferences import DEFAULT_EVENTS, MailPreferences, MailPreferencesError
from chalk_flask.notices.queue import enqueue_notice
from chalk_flask.notices.recipients import Recipient, find_recipients, wanted_events

__all__ = [
    "DEFAULT_EVENTS",
    "DIGEST",
    "NOTICE_EVENTS",
    "MailPreferences",
    "MailPreferencesError",
    "Notice",
    "Recipient",
    "enqueue_notice",
    "find_recipients",
    "wanted_events",
]
