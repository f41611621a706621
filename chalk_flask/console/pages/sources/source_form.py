"""Form for a source: provider, credential and schedule."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any, Final, Self

import orjson
from wtforms import HiddenField, IntegerField, PasswordField, RadioField, SelectField
from wtforms.validators import InputRequired, Length, NumberRange

from chalk_flask.console.context import current
from chalk_flask.console.widgets.forms import ConsoleForm, TextField, select_choices
from chalk_flask.sources import Source, SourceChange, SourceRequest
from chalk_flask.sources.limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from chalk_flask.sources.request import (
    MAX_CLIENT_ID_LENGTH,
    MAX_FULL_DAYS,
    MAX_SECRET_LENGTH,
    default_token_url,
)
from chalk_flask.sources.schedule import describe_interval
from chalk_flask.webhooks import ForbiddenTargetError, SsrfGuard

__all__ = ["NewSourceForm", "SourceForm", "version_of"]

MAX_TEXT_LENGTH: Final = 1000
VERSION_LENGTH: Final = 16

AUTH_LABELS: Final = {
    "oauth2": "OAuth 2 client credentials",
    "oauth1": "OAuth 1.0a: signed requests",
    "bearer": "Bearer token",
}
"""Kinds of credentials in words."""
SCHEDULE_CHOICES: Final = [
    ("none", "Only by hand"),
    ("at", "Every day at a time"),
    ("every", "At an interval"),
]
INTERVALS_MINUTES: Final = (15, 30, 60, 120, 240, 360, 720, 1440)
"""Intervals that can be chosen. The command line accepts others."""


def _number_field(label: str, default: int, maximum: int, description: str) -> IntegerField:
    message = f"Enter a number from 1 to {maximum:,}."
    limits = [InputRequired(message), NumberRange(1, maximum, message)]
    return IntegerField(label, limits, default=default, description=description)


class SourceForm(ConsoleForm):
    """Form for the changes of a source. `version` identifies the values that the page showed."""

    version = HiddenField()
    url = TextField(
        "URL",
        [InputRequired("Enter the URL of the provider."), Length(max=MAX_TEXT_LENGTH)],
        description="The API root of the OneRoster 1.1 service. It ends with /ims/oneroster/v1p1 in most cases.",
    )
    auth = RadioField("Credential", choices=select_choices(AUTH_LABELS.items()), default="oauth2")
    client_id = TextField(
        "Client id", [Length(max=MAX_CLIENT_ID_LENGTH)], description="Called consumer key with OAuth 1.0a."
    )
    token_url = TextField(
        "Token URL",
        [Length(max=MAX_TEXT_LENGTH)],
        description="The token endpoint. If it is empty, /oauth/token on the host of the URL.",
    )
    secret = PasswordField("Secret", [Length(max=MAX_SECRET_LENGTH)])
    schedule = RadioField("Sync", choices=select_choices(SCHEDULE_CHOICES), default="none")
    at = TextField("Time of day in UTC", [Length(max=MAX_TEXT_LENGTH)], description="For example 02:30.")
    every = SelectField("Interval", default="60")
    full_days = _number_field(
        "Days until all records are read again",
        7,
        MAX_FULL_DAYS,
        "Other syncs read what has changed. Only a sync of all records deletes those that are missing.",
    )
    page_size = _number_field(
        "Records to request at once",
        DEFAULT_PAGE_SIZE,
        MAX_PAGE_SIZE,
        "Enter fewer if the provider takes too long for a page.",
    )

    @classmethod
    def prepare(cls, source: Source | None = None, **arguments: Any) -> Self:
        """Return the form of the current request. The interval of a source is among the choices."""
        form = cls(**arguments)
        minutes = {*INTERVALS_MINUTES, *([source.every_seconds // 60] if source and source.every_seconds else [])}
        form.every.choices = select_choices((str(each), describe_interval(each)) for each in sorted(minutes))
        return form

    @classmethod
    def of(cls, source: Source) -> Self:
        """Return the form with the values of a source, without its secret."""
        is_default = source.token_url is None or source.token_url == default_token_url(source.url)
        schedule = "at" if source.at else "every" if source.every_seconds else "none"
        data = {
            "version": version_of(source),
            "url": source.url,
            "auth": source.auth,
            "client_id": source.client_id or "",
            "token_url": "" if is_default else source.token_url,
            "schedule": schedule,
            "at": source.at or "",
            "every": str(source.every_seconds // 60) if source.every_seconds else "60",
            "full_days": source.full_days,
            "page_size": source.page_size,
        }
        return cls.prepare(source, formdata=None, data=data)

    def check(self, source: Source | None = None) -> bool:
        """Return True if all fields are valid. `source` has the values of before a change."""
        is_valid = self.validate()
        if self.auth.data != "bearer" and not self.client_id.data:
            self.client_id.errors = ["Enter the client id."]
        if self.schedule.data == "at" and not self.at.data:
            self.at.errors = ["Enter the time."]
        if not self.url.errors and self.url.data != (source.url if source else None):
            self.url.errors = _url_problems(self.url.data or "")
        if self._token_url() and self._token_url() != (source.token_url if source else None):
            self.token_url.errors = _url_problems(self._token_url())
        return is_valid and not self.errors

    def to_change(self) -> SourceChange:
        """Return the change to the values of the form."""
        return SourceChange(**self._values(), token_url=self._token_url(), unscheduled=self.schedule.data == "none")

    def _values(self) -> dict[str, Any]:
        """Return the values that a new source and a change have in common."""
        schedule = self.schedule.data
        return {
            "url": self.url.data,
            "auth": self.auth.data,
            "client_id": None if self.auth.data == "bearer" else self.client_id.data,
            "secret": self.secret.data or None,
            "full_days": self.full_days.data,
            "page_size": self.page_size.data,
            "every": timedelta(minutes=int(self.every.data)) if schedule == "every" else None,
            "at": self.at.data if schedule == "at" else None,
        }

    def _token_url(self) -> str:
        return (self.token_url.data or "") if self.auth.data == "oauth2" else ""


class NewSourceForm(SourceForm):
    """Form for a new source."""

    name = TextField(
        "Name",
        [InputRequired("Enter a name."), Length(max=MAX_TEXT_LENGTH)],
        description="Letters, digits and . _ - such as sis. Commands and the audit log name the source by it.",
    )

    def check(self, source: Source | None = None) -> bool:
        """Return True if all fields are valid."""
        is_valid = super().check(source)
        if not self.secret.data and not self.secret.errors:
            self.secret.errors = ["Enter the secret, or the bearer token."]
        return is_valid and not self.errors

    def to_request(self) -> SourceRequest:
        """Return the request for the source."""
        return SourceRequest(**self._values(), name=self.name.data or "", token_url=self._token_url() or None)


def version_of(source: Source) -> str:
    """Return a text that changes with the values of a source, so that a stale form does not revert them."""
    values = (source.url, source.auth, source.client_id, source.token_url, source.sealed, source.every_seconds)
    others = (source.at, source.full_days, source.page_size, source.created)
    return hashlib.sha256(orjson.dumps([*values, *others])).hexdigest()[:VERSION_LENGTH]


def _url_problems(url: str) -> list[str]:
    """Return the errors of a URL that an administrator of one tenant must not use. Operators may use any URL.

    A private address would let the administrator read from the network of the operator.
    """
    if current().administrator.is_operator:
        return []
    try:
        SsrfGuard().check_url(url)
    except ForbiddenTargetError:
        return ["Use https and a public host. Only operators can add sources at other addresses."]
    return []
