"""Table of the settings: each is a field of `Settings` with its default, its help and its rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, TypeAlias

from chalk_flask.settings.data_folder import default_data_folder
from chalk_flask.settings.host_allowlist import validate_allowlist
from chalk_flask.settings.mail_rules import validate_mail_host, validate_sender
from chalk_flask.settings.setting_type import (
    Setting,
    absolute_path,
    normalize_address,
    validate_address,
    validate_not_empty,
    validate_origin,
    validate_rate,
    validate_secret,
)
from chalk_flask.settings.sign_in_rules import validate_access_rules, validate_domains, validate_issuer
from chalk_flask.settings.storage_location import storage_url

__all__ = ["SETTINGS", "Settings", "Source"]

Source: TypeAlias = Literal["argument", "environment", "file", "default"]


def _setting(default: Any, help: str, **rules: Any) -> Any:  # noqa: A002 - as in click
    is_shown = not (rules.get("secret") or rules.get("has_passwords"))
    return field(default=default, repr=is_shown, metadata={"help": help, **rules})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Values of all settings, immutable; `load_settings` creates them when the service starts."""

    # The name decides which commands have the option: in `cli/options.py`, settings whose name begins with `import_` or
    # is in `_IMPORT_ONLY` are IMPORT_SETTINGS, and all others are SERVICE_SETTINGS.

    storage: str = _setting(
        "sqlite:///chalk.db",
        "Path of a SQLite file such as district.db, or URL of the store: memory:, json:///folder or sqlite:///file."
        " In a URL three slashes begin a path relative to the working directory, four an absolute path.",
        has_passwords=True,
        check=validate_not_empty,
        normalize=storage_url,
    )
    data: str = _setting(
        "",
        "Folder for files outside of the store: access log, key files, held and uploaded packages. It belongs to one"
        " store, and is created when needed, accessible to its owner only. Default: a folder beside the store,"
        " district-data for district.db.",
        normalize=absolute_path,
    )
    host: str = _setting(
        "127.0.0.1", "Host name or address to listen on; 0.0.0.0 is every IPv4 interface.", check=validate_not_empty
    )
    port: int = _setting(8080, "TCP port to listen on; 0 chooses a free one.", maximum=65535)
    processes: int = _setting(
        1,
        "Number of processes with which `chalk-flask serve` serves a SQLite store, for example one per core. Limits"
        " on connections, threads and streams apply to each of them.",
        minimum=1,
        maximum=64,
    )
    threads: int = _setting(16, "Maximum number of requests that are processed at once.", minimum=1, maximum=1000)
    public_url: str = _setting(
        "",
        "Public URL of this service without a trailing slash, for example https://roster.example.org; hrefs and links"
        " begin with it. Empty: derived from each request; client assertions and OAuth 1.0a are then rejected.",
        check=validate_origin,
    )
    console: bool = _setting(
        True, "Serve the admin console, the web pages for administrators; false removes all its paths."
    )
    api_description: bool = _setting(
        True,
        "Serve the description of the API, which anyone can read: the OpenAPI document at /openapi.json, and the API"
        " reference at /docs. false removes both.",
    )
    oidc_issuer: str = _setting(
        "",
        "Issuer of the identity provider (OpenID Connect) whose accounts can sign in to the admin console, for example"
        " https://accounts.google.com. Empty: sign-in with passwords only.",
        check=validate_issuer,
    )
    oidc_client_id: str = _setting("", "Client id of this service at the identity provider.")
    oidc_client_secret: str = _setting(
        "",
        "Client secret of this service at the identity provider. It has no option, because other users can read the"
        " arguments of a process: use CHALK_OIDC_CLIENT_SECRET_FILE.",
        secret=True,
    )
    oidc_label: str = _setting(
        "", "Name of the identity provider on the sign-in page. Empty: Google, Microsoft, or the host of the issuer."
    )
    oidc_domains: str = _setting(
        "",
        "Comma-separated domains of the verified e-mail addresses that can sign in with the identity provider, for"
        " example example.org. Empty: `oidc_access` alone decides.",
        check=validate_domains,
    )
    oidc_access: str = _setting(
        "",
        "Comma-separated rules CLAIM:VALUE=TENANT:ROLE, of which the first that matches an account gives it access, for"
        " example groups:it-staff=*:owner, domain:example.org=default:viewer. The tenant * makes an operator.",
        check=validate_access_rules,
    )
    max_limit: int = _setting(0, "Maximum `limit` of a request; a larger one is rejected with 400. 0: no maximum.")
    lenient_parent: bool = _setting(False, "Return an empty 200 instead of 404 for paths below an unknown parent.")
    token_seconds: int = _setting(
        3600,
        "Lifetime of access tokens of OAuth clients, in seconds; revoking the client ends them earlier.",
        minimum=60,
        maximum=86400,
    )
    map_enrollment_roles: bool = _setting(
        False,
        "Import an enrollment whose role is not in the standard's list as a teacher with primary=false, instead of"
        " rejecting it (interpretation A-10).",
    )
    tombstone_days: int = _setting(
        90, "Days for which a deleted record stays visible as tobedeleted; the standard requires 90.", minimum=90
    )
    import_role_map: str = _setting(
        "",
        "Comma-separated roles that the standard does not list, and the role that replaces each in users and"
        " enrollments, for example aide=teacher, pupil=student.",
    )
    import_max_entries: int = _setting(64, "Maximum number of files in a package.", minimum=1)
    import_max_mb: int = _setting(512, "Maximum size of an unpacked package, in MiB.", minimum=1)
    import_max_ratio: int = _setting(200, "Maximum compression ratio of a file in a package.", minimum=1)
    import_max_field_kb: int = _setting(128, "Maximum size of a cell of a CSV file, in KiB.", minimum=1)
    upload_max_mb: int = _setting(
        256, "Maximum size of a package that is uploaded or comes from stdin, in MiB.", minimum=1, maximum=65536
    )
    stream_seconds: int = _setting(
        600,
        "Maximum duration of a streamed response, in seconds; it is cut off after that, so that a stalled client"
        " occupies nothing.",
        minimum=1,
    )
    query_milliseconds: int = _setting(
        2000,
        "Maximum duration of a database query of a read, in milliseconds; a longer one is answered with 503. A stream"
        " may take longer in total.",
        minimum=1,
    )
    trusted_proxy: str = _setting(
        "",
        "Address of the reverse proxy whose X-Forwarded-For, -Proto, -Host and -Port headers are trusted; * trusts any"
        " client. Empty: these headers are ignored.",
        check=validate_address,
        normalize=normalize_address,
    )
    rate_limit_token: str = _setting(
        "",
        "Maximum request rate of a token, a client or an issuer, for example 600/minute; requests above it are rejected"
        " with 429. Empty: no limit.",
        check=validate_rate,
    )
    rate_limit_address: str = _setting(
        "",
        "Maximum request rate of an address (IPv6: of its /64 network), for example 600/minute. Empty: no limit.",
        check=validate_rate,
    )
    audit_days: int = _setting(
        90,
        "Days for which the access log in the folder `data` is kept. 0: no access log.",
        maximum=36500,
    )
    history_days: int = _setting(
        365,
        "Days for which the console shows how roster records changed, with their former values; a tenant can have"
        " another period. 0: no change history.",
        maximum=36500,
    )
    webhook_allowed_hosts: str = _setting(
        "",
        "Comma-separated hosts, host:port, addresses or networks that webhooks may use although they are private or"
        " plain http, for example hooks.lan:8080, 10.1.0.0/16. Empty: public https addresses only.",
        check=validate_allowlist,
    )
    connection_limit: int = _setting(
        1000,
        "Maximum number of open connections. If there are more, the ones that are idle or slow are closed.",
        minimum=1,
    )
    connection_limit_address: int = _setting(
        256,
        "Maximum number of open connections of an address (IPv6: of its /64 network). It does not apply to"
        " connections of `trusted_proxy`.",
        minimum=1,
    )
    connection_limit_credential: int = _setting(
        64, "Maximum number of open connections whose last request had the same token or client.", minimum=1
    )
    request_limit_address: int = _setting(
        12, "Maximum number of threads that work on requests of an address at once; further requests wait.", minimum=1
    )
    request_limit_credential: int = _setting(
        4,
        "Maximum number of threads that work on requests with the same token or client at once; further requests wait.",
        minimum=1,
    )
    stream_limit_address: int = _setting(
        32, "Maximum number of streamed responses to an address at once; more are rejected with 429.", minimum=1
    )
    stream_limit_credential: int = _setting(
        8,
        "Maximum number of streamed responses to a token, a client or an issuer at once; more are rejected with 429.",
        minimum=1,
    )
    long_poll_limit_address: int = _setting(
        32, "Maximum number of long polls of the change feed from an address at once; more are rejected with 429."
    )
    long_poll_limit_credential: int = _setting(
        8,
        "Maximum number of long polls of the change feed from a token, a client or an issuer at once; more are rejected"
        " with 429.",
    )
    channel_timeout: int = _setting(
        60, "Seconds after which a connection that waits for its next request is closed.", minimum=1
    )
    head_timeout: int = _setting(
        10,
        "Seconds within which the head of a request must arrive, and the first request of a connection begin.",
        minimum=1,
    )
    body_timeout: int = _setting(60, "Seconds within which the body of a request must arrive.", minimum=1)
    body_min_rate: int = _setting(
        1024, "Minimum rate at which the body of a request must arrive after `head_timeout`, in bytes per second."
    )
    send_timeout: int = _setting(
        30, "Seconds after which a connection is closed whose client accepts nothing of a response.", minimum=1
    )
    metrics: bool = _setting(
        True,
        "Count requests and serve /metrics. If it is false, /metrics is 404.",
    )
    metrics_token: str = _setting(
        "",
        "Token with which a monitoring system reads /metrics, as Authorization: Bearer TOKEN. Empty: only requests from"
        " this machine that no proxy has forwarded can read it.",
        secret=True,
        check=validate_secret,
    )
    ready_max_roster_hours: int = _setting(
        0,
        "Maximum hours since the last import of each tenant; above it, /readyz answers 503. 0: the age is only shown.",
    )
    overdue_hours: int = _setting(
        0,
        "Hours since the last import of a tenant after which the event import.overdue goes to webhooks and by mail,"
        " once. 0: never.",
    )
    smtp_host: str = _setting(
        "",
        "Host of the mail server that sends notices about imports to administrators. Empty: no mail is sent.",
        check=validate_mail_host,
    )
    smtp_port: int = _setting(
        0, "TCP port of the mail server. 0: 587 for starttls, 465 for tls, 25 for none.", maximum=65535
    )
    smtp_security: str = _setting(
        "starttls",
        "Encryption of the connection to the mail server: starttls begins in plain text and requires STARTTLS, tls"
        " begins with TLS. Both verify the certificate. none does not encrypt, and allows no password.",
        choices=("starttls", "tls", "none"),
    )
    smtp_user: str = _setting("", "User name at the mail server. Empty: no authentication.")
    smtp_password: str = _setting(
        "",
        "Password at the mail server. It has no option, because other users can read the arguments of a process: use"
        " CHALK_SMTP_PASSWORD_FILE.",
        secret=True,
    )
    mail_from: str = _setting(
        "",
        "Sender of mail, for example roster@example.org or Roster <roster@example.org>. Required with smtp_host.",
        check=validate_sender,
    )
    mail_digest_hour: int = _setting(6, "Hour in UTC at which the daily digest of imports is sent.", maximum=23)
    log_level: str = _setting("info", "Minimum level of log messages.", choices=("debug", "info", "warning", "error"))
    log_format: str = _setting(
        "plain",
        "Form of log messages: lines of text, or one JSON object per line. Times are in UTC in both.",
        choices=("plain", "json"),
    )
    log_requests: bool = _setting(
        False,
        "Log every request with its method, route, status and duration, without ids, parameters and addresses."
        " Requests that are rejected with 401 or 403 are always logged.",
    )
    slow_statement_milliseconds: int = _setting(
        500, "Duration in milliseconds above which a statement of the database is logged. 0: none is logged."
    )
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Set the default of the folder `data`, which depends on the store. Its path is always absolute."""
        if not self.data:
            object.__setattr__(self, "data", str(default_data_folder(self.storage)))

    @property
    def query_seconds(self) -> float:
        """The setting `query_milliseconds` in seconds, as `Backend.read` takes it."""
        return self.query_milliseconds / 1000


SETTINGS: tuple[Setting, ...] = tuple(
    Setting(name=f.name, default=f.default, **f.metadata) for f in fields(Settings) if f.default is not MISSING
)
