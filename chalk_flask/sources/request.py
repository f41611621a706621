"""Requests to add or change a source, and the checks of their values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from chalk_flask.https.url import InvalidUrlError, UrlCredentialsError, parse_url
from chalk_flask.sources.errors import CredentialsInUrlError, SourceError
from chalk_flask.sources.limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from chalk_flask.sources.record import AuthKind, Source
from chalk_flask.sources.schedule import check_schedule, parse_time_of_day

__all__ = [
    "MAX_CLIENT_ID_LENGTH",
    "MAX_FULL_DAYS",
    "MAX_SECRET_LENGTH",
    "SourceChange",
    "SourceRequest",
    "changed_members",
    "check_name",
    "check_secret",
    "check_url",
    "default_token_url",
    "requires_secret",
]

MAX_CLIENT_ID_LENGTH: Final = 255
MAX_SECRET_LENGTH: Final = 4096
MAX_FULL_DAYS: Final = 365
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SETTINGS: Final = frozenset({"url", "auth", "clientId", "tokenUrl", "fullDays", "pageSize", "everySeconds", "at"})
"""Members of a source in JSON that a change can set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRequest:
    """Source to add. `secret` is the secret of the client, or the bearer token.

    `token_url` defaults to `/oauth/token` on the host of the provider. With `every` or `at` (`HH:MM` in UTC), the job
    worker syncs the source. `page_size` is the number of records to request at once.
    """

    name: str
    url: str
    auth: AuthKind
    secret: str = field(repr=False)
    client_id: str | None = None
    token_url: str | None = None
    full_days: int = 7
    page_size: int = DEFAULT_PAGE_SIZE
    every: timedelta | None = None
    at: str | None = None

    def to_source(self, tenant: str, created: str) -> Source:
        """Return the source without its secret. Raises SourceError for an invalid value."""
        check_schedule(self.every, self.at)
        return _check_numbers(
            Source(
                name=check_name(self.name),
                tenant=tenant,
                url=check_url(self.url).rstrip("/"),
                auth=self.auth,
                created=created,
                sealed="",
                client_id=_check_client_id(self.auth, self.client_id),
                token_url=_check_token_url(self.auth, self.token_url, self.url),
                full_days=self.full_days,
                page_size=self.page_size,
                every_seconds=_seconds(self.every),
                at=_time_of_day(self.at),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceChange:
    """New values of a source. None keeps the present one.

    An empty `token_url` is the default. `every` or `at` replaces the schedule, and `unscheduled` removes it. A source
    that no longer has a client id or a token URL, because of its new `auth`, loses them.
    """

    url: str | None = None
    auth: AuthKind | None = None
    secret: str | None = field(default=None, repr=False)
    client_id: str | None = None
    token_url: str | None = None
    full_days: int | None = None
    page_size: int | None = None
    every: timedelta | None = None
    at: str | None = None
    unscheduled: bool = False

    def apply(self, source: Source) -> Source:
        """Return the changed source with its former secret. Raises SourceError for an invalid value.

        If it reads other records from now on, the next sync reads all of them.
        """
        auth = self.auth or source.auth
        url = source.url if self.url is None else check_url(self.url).rstrip("/")
        changed = _check_numbers(
            replace(
                self._with_schedule(source),
                url=url,
                auth=auth,
                client_id=_check_client_id(auth, self._client_id(source, auth)),
                token_url=_check_token_url(auth, self._token_url(source, auth), url),
                full_days=source.full_days if self.full_days is None else self.full_days,
                page_size=source.page_size if self.page_size is None else self.page_size,
            )
        )
        return changed if changed.reads_like(source) else replace(changed, last_full=None)

    def _client_id(self, source: Source, auth: AuthKind) -> str | None:
        if self.client_id is not None:
            return self.client_id
        return None if auth == "bearer" else source.client_id

    def _token_url(self, source: Source, auth: AuthKind) -> str | None:
        """Return the token URL; None for the default, which follows the URL of the provider."""
        if self.token_url is not None:
            return self.token_url or None
        is_default = source.token_url == default_token_url(source.url)
        return None if is_default or auth != "oauth2" else source.token_url

    def _with_schedule(self, source: Source) -> Source:
        check_schedule(self.every, self.at)
        if self.unscheduled and (self.every is not None or self.at is not None):
            raise SourceError("a source cannot have a schedule and none: give one of them")
        if self.every is None and self.at is None and not self.unscheduled:
            return source
        return replace(source, every_seconds=_seconds(self.every), at=_time_of_day(self.at))


def requires_secret(former: Source, changed: Source) -> bool:
    """Return True if a change requires the secret again: another server would receive it, or `auth` differs."""
    return former.auth != changed.auth or not _origins(changed) <= _origins(former)


def changed_members(former: Source, changed: Source) -> Sequence[str]:
    """Return the names of the settings that differ, as JSON spells them, and `secret`."""
    values, former_values = changed.to_dict(), former.to_dict()
    names = [name for name in values if values[name] != former_values[name] and name in _SETTINGS]
    return [*names, "secret"] if former.sealed != changed.sealed else names


def check_secret(secret: str) -> None:
    """Raise SourceError for a secret that no header can contain."""
    if not secret or len(secret) > MAX_SECRET_LENGTH or not secret.isascii() or not secret.isprintable():
        raise SourceError(
            f"the secret must have 1 to {MAX_SECRET_LENGTH} printable ASCII characters, and no line break within it"
        )


def _seconds(every: timedelta | None) -> int | None:
    return None if every is None else int(every.total_seconds())


def _time_of_day(at: str | None) -> str | None:
    return None if at is None else parse_time_of_day(at)


def _origins(source: Source) -> set[tuple[str, str]]:
    """Return scheme and authority of the servers that receive the secret, or what is derived from it."""
    urls = [source.url, *([source.token_url] if source.token_url else [])]
    return {(parts.scheme, parts.netloc.lower()) for parts in map(urlsplit, urls)}


def default_token_url(url: str) -> str:
    """Return the token URL of a provider if none is given."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/oauth/token"


def check_name(name: str) -> str:
    """Return the name of a source. Raises SourceError for an invalid one."""
    if not _NAME.fullmatch(name):
        raise SourceError(
            f"invalid name {name[:80]!r}: use at most 64 letters, digits and . _ - and begin with a letter or digit"
        )
    return name


def check_url(url: str, label: str = "URL") -> str:
    """Return the URL of a provider. Raises SourceError, which names it as `label` says."""
    try:
        parts = parse_url(url, label)
    except UrlCredentialsError as error:
        raise CredentialsInUrlError(f"{error}, and enter them as client id and secret") from error
    except InvalidUrlError as error:
        raise SourceError(str(error)) from error
    if parts.query:
        raise SourceError(f"the {label} must not have a query, because logs of servers contain it: remove it")
    return url


def _check_client_id(auth: AuthKind, client_id: str | None) -> str | None:
    if auth == "bearer":
        if client_id is not None:
            raise SourceError("a bearer token has no client id: leave it out, or choose another authentication")
        return None
    if not client_id or len(client_id) > MAX_CLIENT_ID_LENGTH or not client_id.isprintable():
        raise SourceError(f"a client id of at most {MAX_CLIENT_ID_LENGTH} characters is required for {auth}")
    return client_id


def _check_token_url(auth: AuthKind, token_url: str | None, url: str) -> str | None:
    if auth != "oauth2":
        if token_url is not None:
            raise SourceError(f"{auth} has no token URL: leave it out")
        return None
    return default_token_url(url) if token_url is None else check_url(token_url, "token URL")


def _check_numbers(source: Source) -> Source:
    if not 1 <= source.full_days <= MAX_FULL_DAYS:
        raise SourceError(f"the days until a full sync must be from 1 to {MAX_FULL_DAYS}, not {source.full_days}")
    if not 1 <= source.page_size <= MAX_PAGE_SIZE:
        raise SourceError(f"the page size must be from 1 to {MAX_PAGE_SIZE:,} records, not {source.page_size}")
    return source
