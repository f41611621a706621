"""Recipients of notices: the administrators of a tenant, and operators, who chose the event.

This module reads stored administrators without their package, so that an import does not load its libraries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from backends import Query, Snapshot
from chalk_flask.notices.notice import DIGEST, NOTICE_EVENTS
from chalk_flask.notices.preferences import MailPreferences

__all__ = ["Recipient", "find_recipients", "wanted_events"]

ADMINISTRATORS = "administrators"
"""Collection of the administrators in the control tenant."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Administrator who gets a notice: id and e-mail address."""

    id: str
    address: str = field(repr=False)


def find_recipients(control: Snapshot, tenant: str, event: str) -> Sequence[Recipient]:
    """Return the recipients of an event of a tenant, or of DIGEST, from a snapshot of CONTROL."""
    found = _preferences(control, tenant)
    return [Recipient(key, preferences.address) for key, preferences in found if preferences.wants(event)]


def wanted_events(control: Snapshot, tenant: str) -> frozenset[str]:
    """Return the events of a tenant that have a recipient, DIGEST included, from a snapshot of CONTROL."""
    found = [preferences for _, preferences in _preferences(control, tenant)]
    return frozenset(event for event in (*NOTICE_EVENTS, DIGEST) if any(each.wants(event) for each in found))


def _preferences(control: Snapshot, tenant: str) -> Sequence[tuple[str, MailPreferences]]:
    administrators = orjson.loads(b"[%s]" % control.find(Query(ADMINISTRATORS)).body())
    return [
        (administrator["id"], MailPreferences.from_dict(administrator.get("mail")))
        for administrator in administrators
        if administrator["tenant"] in (None, tenant)
    ]
