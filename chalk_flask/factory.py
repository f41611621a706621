"""Application factory: creates the services from the settings and registers the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Request
from werkzeug.routing import Map, MapAdapter
from werkzeug.sansio.utils import get_host

from backends import Backend, open_store
from chalk_flask import api, monitoring, openapi
from chalk_flask.admins.sessions import SessionStore
from chalk_flask.admins.setup_link import SetupLink
from chalk_flask.admins.sign_in import SignIn
from chalk_flask.admins.store import AdministratorStore
from chalk_flask.admins.throttle import SignInThrottle
from chalk_flask.audit.access_log import AccessLog
from chalk_flask.audit.login_log import LoginLog
from chalk_flask.auth.authenticator import Authenticator
from chalk_flask.auth.clients.access_tokens import ACCESS_TOKEN_KEY_FILE, AccessTokenIssuer
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.jwt.jwks_cache import RemoteJwksCache
from chalk_flask.auth.jwt.verifier import JwtVerifier
from chalk_flask.auth.oauth1.verifier import OAuth1Verifier
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.auth.secrets.key_file import KeyFile
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.background.leader_lock import worker_lock
from chalk_flask.data_folder_binding import bind_data_folder, check_data_folder, check_missing_store
from chalk_flask.jobs import JobStore, JobWorker
from chalk_flask.logs import log_slow_statements
from chalk_flask.mail import MailServerSettings, MailWorker
from chalk_flask.metrics import ServiceMetrics
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.services import ServiceAddress, Services
from chalk_flask.settings import Settings, load_settings
from chalk_flask.shared_state import SharedState, credential_state
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import find_audit_tenant
from chalk_flask.webhooks import SsrfGuard, WebhookClient, Worker

if TYPE_CHECKING:
    from chalk_flask.admins.oidc_sign_in import OidcSignIn

__all__ = ["create_application"]

MAX_CACHED_HOST_LENGTH = 255
"""Maximum length of a Host header that is cached. A domain name has at most 253 characters."""

_EMPTY_MAP = Map()


def create_application(arguments: Mapping[str, object]) -> Flask:
    """Return the application; see `chalk_flask.create_app`."""
    settings = load_settings(arguments)
    services = _create_services(settings)
    app = _SyncFlask("chalk_flask", static_folder=None)
    app.extensions["chalk"] = services
    api.register(app, services)
    monitoring.register(app, services)
    openapi.register(app, services, partial(monitoring.sections, settings))
    if settings.console:
        from chalk_flask import console  # its libraries take time to import

        console.register(app, services)
    return app


def _create_services(settings: Settings) -> Services:
    data = Path(settings.data)
    mail_server = MailServerSettings.of(settings)
    check_missing_store(settings)
    store = open_store(settings.storage, COLLECTIONS)
    _check_data_folder(store, settings)
    log_slow_statements(store, settings.slow_statement_milliseconds)
    cipher = SecretCipher(data)
    tokens = TokenStore(store)
    clients = ClientStore(store, cipher=cipher)
    shared_state = SharedState()
    credentials = credential_state(store, shared_state)
    jwt_verifier = JwtVerifier(store, jwks_cache=RemoteJwksCache(shared_state), shared_state=credentials)
    login_log = LoginLog(store, find_audit_tenant)
    administrators = AdministratorStore(store, cipher)
    jobs = JobStore.of(store, settings)
    throttle = SignInThrottle(shared_state=credentials)
    access_tokens = AccessTokenIssuer(clients, KeyFile(data / ACCESS_TOKEN_KEY_FILE), settings.token_seconds)
    return Services(
        settings=settings,
        address=ServiceAddress(settings.public_url),
        store=store,
        tokens=tokens,
        clients=clients,
        access_tokens=access_tokens,
        # Access tokens are JWTs too, so their verifier precedes that of trusted issuers.
        jwt_verifier=jwt_verifier,
        authenticator=Authenticator((tokens, access_tokens, jwt_verifier)),
        oauth1=OAuth1Verifier(store, cipher, on_use=clients.record_use, shared_state=credentials),
        login_log=login_log,
        access_log=_create_access_log(settings, data),
        worker=_create_worker(settings, store, cipher, data),
        administrators=administrators,
        sessions=SessionStore(store),
        sign_in=SignIn(administrators, login_log, throttle),
        oidc_sign_in=_create_oidc_sign_in(settings, store, login_log, throttle, credentials),
        setup_link=SetupLink(store),
        jobs=jobs,
        job_worker=_create_job_worker(settings, store, jobs, data),
        mail_worker=_create_mail_worker(settings, store, mail_server, data),
        metrics=ServiceMetrics(),
        shared_state=shared_state,
        credential_state=credentials,
    )


def _check_data_folder(store: Backend, settings: Settings) -> None:
    """Compare an existing folder `data` with the store, and write the store id to it. Close the store on error."""
    try:
        check_data_folder(store, settings)
        if Path(settings.data).is_dir():
            bind_data_folder(store, settings)
    except BaseException:
        store.close()
        raise


def _create_oidc_sign_in(
    settings: Settings, store: Backend, login_log: LoginLog, throttle: SignInThrottle, shared_state: SharedState
) -> OidcSignIn | None:
    """Return the sign-in with an identity provider, or None without one. Raises SettingsError for missing settings."""
    is_configured = any(getattr(settings, name) for name in settings.__struct_fields__ if name.startswith("oidc_"))
    if not (settings.console and is_configured):
        return None
    from chalk_flask.admins.external import ExternalAdministrators  # the libraries take time to import
    from chalk_flask.admins.oidc_sign_in import OidcSignIn
    from chalk_flask.oidc import OidcClient, OidcSettings

    client = OidcClient(OidcSettings.of(settings), shared_state=shared_state)
    return OidcSignIn(client, ExternalAdministrators(store), login_log, throttle)


def _create_access_log(settings: Settings, data: Path) -> AccessLog:
    access_log = AccessLog(data / "reads", settings.audit_days)
    # With the default folder, only `chalk-flask serve` starts it, so that creating an application creates no folder.
    if settings.sources.get("data") != "default":
        access_log.start()
    return access_log


def _create_worker(settings: Settings, store: Backend, cipher: SecretCipher, data: Path) -> Worker:
    guard = SsrfGuard(settings.webhook_allowed_hosts.split(","))
    leader_lock = worker_lock("webhooks", store, settings.storage, data)
    return Worker(store, cipher, leader_lock, lambda: WebhookClient(guard))


def _create_job_worker(settings: Settings, store: Backend, jobs: JobStore, data: Path) -> JobWorker:
    return JobWorker(store, jobs, settings, worker_lock("jobs", store, settings.storage, data))


def _create_mail_worker(
    settings: Settings, store: Backend, server: MailServerSettings | None, data: Path
) -> MailWorker:
    leader_lock = worker_lock("mail", store, settings.storage, data)
    return MailWorker(store, server, leader_lock, store_folder(settings), settings.mail_digest_hour)


class _SyncFlask(Flask):
    """Flask application without the work of each request that this one does not need."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function unchanged. Flask would test every view for `async def`."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return the adapter that matches the URL of a request. Flask would parse its Host header three times."""
        if request is None or self.config["TRUSTED_HOSTS"] is not None:
            return super().create_url_adapter(request)
        header: str | None = request.environ.get("HTTP_HOST")
        if "HTTP_UPGRADE" in request.environ or len(header or "") > MAX_CACHED_HOST_LENGTH:
            return super().create_url_adapter(request)
        request.host, server_name = _parse_host(request.scheme, header, request.server)
        query = request.environ.get("QUERY_STRING", "")
        return MapAdapter(
            self.url_map, server_name, request.root_path, "", request.scheme, request.path, request.method, query
        )


@lru_cache(maxsize=256)
def _parse_host(scheme: str, header: str | None, server: tuple[str, int | None] | None) -> tuple[str, str]:
    """Return the host of a request, and its form in the URL map. Raises BadHost if it is not a domain name."""
    host = get_host(scheme, header, server)
    return host, _EMPTY_MAP.bind(host).server_name
