"""Table of the settings: each is a field of `Settings` with its type, limits, default and help."""

# No `from __future__ import annotations`: msgspec reads the types at run time.

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct
from msgspec import field as struct_field
from msgspec.structs import fields, force_setattr

from chalk_flask.settings.data_folder import default_data_folder
from chalk_flask.settings.host_allowlist import validate_allowlist
from chalk_flask.settings.mail_rules import validate_mail_host, validate_sender
from chalk_flask.settings.process_count import MAX_PROCESSES
from chalk_flask.settings.setting_type import (
    Count,
    NonEmptyText,
    PositiveCount,
    Rate,
    Secret,
    Setting,
    SettingInfo,
    SettingSection,
    absolute_path,
    normalize_address,
    validate_address,
    validate_origin,
)
from chalk_flask.settings.sign_in_rules import validate_access_rules, validate_domains, validate_issuer
from chalk_flask.settings.storage_location import storage_url

__all__ = ["SETTINGS", "Settings", "Source"]

Source: TypeAlias = Literal["argument", "environment", "file", "default"]


_INFOS: list[SettingInfo] = []
"""Help and rules of the fields of `Settings`, in their order."""


def _setting(default: Any, section: SettingSection, help: str, **rules: Any) -> Any:  # noqa: A002 - as in click
    """Return the default of the next field, and keep its help and rules for SETTINGS."""
    _INFOS.append(SettingInfo(section, help, **rules))
    return default


class Settings(Struct, frozen=True, kw_only=True, eq=False):
    """Values of all settings, immutable; `load_settings` creates them when the service starts.

    Two objects with the same values are equal, wherever the values come from.
    """

    # The name decides which commands have the option: in `cli/options.py`, settings whose name begins with `import_` or
    # is in `_IMPORT_ONLY` are IMPORT_SETTINGS, and all others are SERVICE_SETTINGS.

    storage: NonEmptyText = _setting(
        "sqlite:///chalk.db",
        SettingSection.STORE,
        "Path of a SQLite file such as district.db, or URL of the store: memory:, json:///folder, sqlite:///file or"
        " postgresql://user@host/database. In the URL of a file, three slashes begin a path relative to the working"
        " directory, four an absolute path.",
        has_passwords=True,
        normalize=storage_url,
    )
    data: str = _setting(
        "",
        SettingSection.STORE,
        "Folder for files outside of the store: access log, key files, held and uploaded packages. It belongs to one"
        " store, and is created when needed, accessible to its owner only. Default: a folder beside the store,"
        " district-data for district.db.",
        normalize=absolute_path,
    )
    host: NonEmptyText = _setting(
        "127.0.0.1", SettingSection.SERVER, "Host name or address to listen on; 0.0.0.0 is every IPv4 interface."
    )
    port: Annotated[int, Meta(ge=0, le=65535)] = _setting(
        8080, SettingSection.SERVER, "TCP port to listen on; 0 chooses a free one."
    )
    processes: Annotated[int, Meta(ge=0, le=MAX_PROCESSES)] = _setting(
        0,
        SettingSection.SERVER,
        "Number of processes with which `chalk-flask serve` serves a SQLite store. Limits on connections, threads and"
        " streams apply to each of them. 0: one per core for a SQLite store, and one for other stores.",
    )
    threads: Annotated[int, Meta(ge=1, le=1000)] = _setting(
        16, SettingSection.SERVER, "Maximum number of requests that are processed at once."
    )
    public_url: str = _setting(
        "",
        SettingSection.SERVER,
        "Public URL of this service without a trailing slash, for example https://roster.example.org; hrefs and links"
        " begin with it. Empty: derived from each request; client assertions and OAuth 1.0a are then rejected.",
        check=validate_origin,
    )
    console: bool = _setting(
        True,
        SettingSection.SERVER,
        "Serve the admin console, the web pages for administrators; false removes all its paths.",
    )
    api_description: bool = _setting(
        True,
        SettingSection.SERVER,
        "Serve the description of the API, which anyone can read: the OpenAPI document at /openapi.json, and the API"
        " reference at /docs. false removes both.",
    )
    oidc_issuer: str = _setting(
        "",
        SettingSection.SIGN_IN,
        "Issuer of the identity provider (OpenID Connect) whose accounts can sign in to the admin console, for example"
        " https://accounts.google.com. Empty: sign-in with passwords only.",
        check=validate_issuer,
    )
    oidc_client_id: str = _setting("", SettingSection.SIGN_IN, "Client id of this service at the identity provider.")
    oidc_client_secret: str = _setting(
        "",
        SettingSection.SIGN_IN,
        "Client secret of this service at the identity provider. It has no option, because other users can read the"
        " arguments of a process: use CHALK_OIDC_CLIENT_SECRET_FILE.",
        secret=True,
    )
    oidc_label: str = _setting(
        "",
        SettingSection.SIGN_IN,
        "Name of the identity provider on the sign-in page. Empty: Google, Microsoft, or the host of the issuer.",
    )
    oidc_domains: str = _setting(
        "",
        SettingSection.SIGN_IN,
        "Comma-separated domains of the verified e-mail addresses that can sign in with the identity provider, for"
        " example example.org. Empty: `oidc_access` alone decides.",
        check=validate_domains,
    )
    oidc_access: str = _setting(
        "",
        SettingSection.SIGN_IN,
        "Comma-separated rules CLAIM:VALUE=TENANT:ROLE, of which the first that matches an account gives it access, for"
        " example groups:it-staff=*:owner, domain:example.org=default:viewer. The tenant * makes an operator.",
        check=validate_access_rules,
    )
    max_limit: Count = _setting(
        0, SettingSection.API, "Maximum `limit` of a request; a larger one is rejected with 400. 0: no maximum."
    )
    lenient_parent: bool = _setting(
        False, SettingSection.API, "Return an empty 200 instead of 404 for paths below an unknown parent."
    )
    token_seconds: Annotated[int, Meta(ge=60, le=86400)] = _setting(
        3600,
        SettingSection.API,
        "Lifetime of access tokens of OAuth clients, in seconds; revoking the client ends them earlier.",
    )
    map_enrollment_roles: bool = _setting(
        False,
        SettingSection.IMPORTS,
        "Import an enrollment whose role is not in the standard's list as a teacher with primary=false, instead of"
        " rejecting it (interpretation A-10).",
    )
    tombstone_days: Annotated[int, Meta(ge=90)] = _setting(
        90,
        SettingSection.IMPORTS,
        "Days for which a deleted record stays visible as tobedeleted; the standard requires 90.",
    )
    import_role_map: str = _setting(
        "",
        SettingSection.IMPORTS,
        "Comma-separated roles that the standard does not list, and the role that replaces each in users and"
        " enrollments, for example aide=teacher, pupil=student.",
    )
    import_max_entries: PositiveCount = _setting(64, SettingSection.IMPORTS, "Maximum number of files in a package.")
    import_max_mb: PositiveCount = _setting(512, SettingSection.IMPORTS, "Maximum size of an unpacked package, in MiB.")
    import_max_ratio: PositiveCount = _setting(
        200, SettingSection.IMPORTS, "Maximum compression ratio of a file in a package."
    )
    import_max_field_kb: PositiveCount = _setting(
        128, SettingSection.IMPORTS, "Maximum size of a cell of a CSV file, in KiB."
    )
    upload_max_mb: Annotated[int, Meta(ge=1, le=65536)] = _setting(
        256, SettingSection.IMPORTS, "Maximum size of a package that is uploaded or comes from stdin, in MiB."
    )
    stream_seconds: PositiveCount = _setting(
        600,
        SettingSection.LIMITS,
        "Maximum duration of a streamed response, in seconds; it is cut off after that, so that a stalled client"
        " occupies nothing.",
    )
    query_milliseconds: PositiveCount = _setting(
        2000,
        SettingSection.LIMITS,
        "Maximum duration of a database query of a read, in milliseconds; a longer one is answered with 503. A stream"
        " may take longer in total.",
    )
    trusted_proxy: str = _setting(
        "",
        SettingSection.SERVER,
        "Address of the reverse proxy whose X-Forwarded-For, -Proto, -Host and -Port headers are trusted; * trusts any"
        " client. Empty: these headers are ignored.",
        check=validate_address,
        normalize=normalize_address,
    )
    rate_limit_token: Rate = _setting(
        "",
        SettingSection.LIMITS,
        "Maximum request rate of a token, a client or an issuer, for example 600/minute; requests above it are rejected"
        " with 429. Empty: no limit.",
    )
    rate_limit_address: Rate = _setting(
        "",
        SettingSection.LIMITS,
        "Maximum request rate of an address (IPv6: of its /64 network), for example 600/minute. Empty: no limit.",
    )
    audit_days: Annotated[int, Meta(ge=0, le=36500)] = _setting(
        90, SettingSection.LOGS, "Days for which the access log in the folder `data` is kept. 0: no access log."
    )
    history_days: Annotated[int, Meta(ge=0, le=36500)] = _setting(
        365,
        SettingSection.LOGS,
        "Days for which the console shows how roster records changed, with their former values; a tenant can have"
        " another period. 0: no change history.",
    )
    webhook_allowed_hosts: str = _setting(
        "",
        SettingSection.WEBHOOKS,
        "Comma-separated hosts, host:port, addresses or networks that webhooks may use although they are private or"
        " plain http, for example hooks.lan:8080, 10.1.0.0/16. Empty: public https addresses only.",
        check=validate_allowlist,
    )
    connection_limit: PositiveCount = _setting(
        1000,
        SettingSection.LIMITS,
        "Maximum number of open connections. If there are more, the ones that are idle or slow are closed.",
    )
    connection_limit_address: PositiveCount = _setting(
        256,
        SettingSection.LIMITS,
        "Maximum number of open connections of an address (IPv6: of its /64 network). It does not apply to"
        " connections of `trusted_proxy`.",
    )
    connection_limit_credential: PositiveCount = _setting(
        64, SettingSection.LIMITS, "Maximum number of open connections whose last request had the same token or client."
    )
    request_limit_address: PositiveCount = _setting(
        12,
        SettingSection.LIMITS,
        "Maximum number of threads that work on requests of an address at once; further requests wait.",
    )
    request_limit_credential: PositiveCount = _setting(
        4,
        SettingSection.LIMITS,
        "Maximum number of threads that work on requests with the same token or client at once; further requests wait.",
    )
    stream_limit_address: PositiveCount = _setting(
        32,
        SettingSection.LIMITS,
        "Maximum number of streamed responses to an address at once; more are rejected with 429.",
    )
    stream_limit_credential: PositiveCount = _setting(
        8,
        SettingSection.LIMITS,
        "Maximum number of streamed responses to a token, a client or an issuer at once; more are rejected with 429.",
    )
    long_poll_limit_address: Count = _setting(
        32,
        SettingSection.LIMITS,
        "Maximum number of long polls of the change feed from an address at once; more are rejected with 429.",
    )
    long_poll_limit_credential: Count = _setting(
        8,
        SettingSection.LIMITS,
        "Maximum number of long polls of the change feed from a token, a client or an issuer at once; more are rejected"
        " with 429.",
    )
    channel_timeout: PositiveCount = _setting(
        60, SettingSection.TIMEOUTS, "Seconds after which a connection that waits for its next request is closed."
    )
    head_timeout: PositiveCount = _setting(
        10,
        SettingSection.TIMEOUTS,
        "Seconds within which the head of a request must arrive, and the first request of a connection begin.",
    )
    body_timeout: PositiveCount = _setting(
        60, SettingSection.TIMEOUTS, "Seconds within which the body of a request must arrive."
    )
    body_min_rate: Count = _setting(
        1024,
        SettingSection.TIMEOUTS,
        "Minimum rate at which the body of a request must arrive after `head_timeout`, in bytes per second.",
    )
    send_timeout: PositiveCount = _setting(
        30,
        SettingSection.TIMEOUTS,
        "Seconds after which a connection is closed whose client accepts nothing of a response.",
    )
    metrics: bool = _setting(
        True, SettingSection.MONITORING, "Count requests and serve /metrics. If it is false, /metrics is 404."
    )
    metrics_token: Secret = _setting(
        "",
        SettingSection.MONITORING,
        "Token with which a monitoring system reads /metrics, as Authorization: Bearer TOKEN. Empty: only requests from"
        " this machine that no proxy has forwarded can read it.",
        secret=True,
    )
    ready_max_roster_hours: Count = _setting(
        0,
        SettingSection.MONITORING,
        "Maximum hours since the last import of each tenant; above it, /readyz answers 503. 0: the age is only shown.",
    )
    overdue_hours: Count = _setting(
        0,
        SettingSection.MONITORING,
        "Hours since the last import of a tenant after which the event import.overdue goes to webhooks and by mail,"
        " once. 0: never.",
    )
    smtp_host: str = _setting(
        "",
        SettingSection.MAIL,
        "Host of the mail server that sends notices about imports to administrators. Empty: no mail is sent.",
        check=validate_mail_host,
    )
    smtp_port: Annotated[int, Meta(ge=0, le=65535)] = _setting(
        0, SettingSection.MAIL, "TCP port of the mail server. 0: 587 for starttls, 465 for tls, 25 for none."
    )
    smtp_security: Literal["starttls", "tls", "none"] = _setting(
        "starttls",
        SettingSection.MAIL,
        "Encryption of the connection to the mail server: starttls begins in plain text and requires STARTTLS, tls"
        " begins with TLS. Both verify the certificate. none does not encrypt, and allows no password.",
    )
    smtp_user: str = _setting("", SettingSection.MAIL, "User name at the mail server. Empty: no authentication.")
    smtp_password: str = _setting(
        "",
        SettingSection.MAIL,
        "Password at the mail server. It has no option, because other users can read the arguments of a process: use"
        " CHALK_SMTP_PASSWORD_FILE.",
        secret=True,
    )
    mail_from: str = _setting(
        "",
        SettingSection.MAIL,
        "Sender of mail, for example roster@example.org or Roster <roster@example.org>. Required with smtp_host.",
        check=validate_sender,
    )
    mail_digest_hour: Annotated[int, Meta(ge=0, le=23)] = _setting(
        6, SettingSection.MAIL, "Hour in UTC at which the daily digest of imports is sent."
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", SettingSection.LOGS, "Minimum level of log messages."
    )
    log_format: Literal["plain", "json"] = _setting(
        "plain",
        SettingSection.LOGS,
        "Form of log messages: lines of text, or one JSON object per line. Times are in UTC in both.",
    )
    log_requests: bool = _setting(
        False,
        SettingSection.LOGS,
        "Log every request with its method, route, status and duration, without ids, parameters and addresses."
        " Requests that are rejected with 401 or 403 are always logged.",
    )
    slow_statement_milliseconds: Count = _setting(
        500,
        SettingSection.LOGS,
        "Duration in milliseconds above which a statement of the database is logged. 0: none is logged.",
    )
    sources: Mapping[str, Source] = struct_field(default_factory=dict)

    def __post_init__(self) -> None:
        """Set the default of the folder `data`, which depends on the store. Its path is always absolute."""
        if not self.data:
            force_setattr(self, "data", str(default_data_folder(self.storage)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        return all(getattr(self, setting.name) == getattr(other, setting.name) for setting in SETTINGS)

    def __repr__(self) -> str:
        shown = (setting for setting in SETTINGS if not (setting.info.secret or setting.info.has_passwords))
        return f"Settings({', '.join(f'{setting.name}={getattr(self, setting.name)!r}' for setting in shown)})"

    @property
    def query_seconds(self) -> float:
        """The setting `query_milliseconds` in seconds, as `Backend.read` takes it."""
        return self.query_milliseconds / 1000


SETTINGS: tuple[Setting, ...] = tuple(
    Setting(field.name, field.default, info, field.type) for field, info in zip(fields(Settings), _INFOS, strict=False)
)
