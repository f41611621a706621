"""Notices about imports, stored until the mail worker has sent them to administrators.

In goes the outcome of an import with counts and reasons, without any cell of its package. `enqueue_notice` is the entry
point: it stores a notice in the transaction of the outcome. Out comes a list of notices and, from the mail preferences
of administrators, the recipients of each. `wanted_events` says which notices have one.
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
