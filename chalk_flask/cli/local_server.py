"""The service as a process of the command line: create it, serve it, and print how to try it."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import CommandError
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.options import DEFAULT_TENANT

if TYPE_CHECKING:
    from flask import Flask

    from backends import Backend
    from chalk_flask.admins import SetupLink
    from chalk_flask.server import BodyLimit
    from chalk_flask.services import Services
    from chalk_flask.settings import Settings
    from chalk_flask.supervisor import ServiceManager

__all__ = [
    "body_limit_of",
    "check_key_files",
    "create_day_token",
    "curl_command",
    "echo_status",
    "first_administrator_text",
    "log_end",
    "log_start",
    "open_service",
    "open_worker",
    "run_server",
    "setup_link_text",
    "wait_for_signal",
]

TOKEN_LIFETIME = timedelta(days=1)


log = logging.getLogger(__name__)

STDERR_FILENO = 2
EXAMPLE_PATH = "/ims/oneroster/v1p1/users?limit=2"


def create_day_token(store: Backend, command: str) -> dict[str, Any]:
    """Create a token with every scope of OneRoster that is valid for one day; return it with its id and its expiry.

    The name of the command is its label. Valid tokens that the same command has created before are revoked.
    """
    from chalk_flask.auth.tokens.store import TokenStore
    from chalk_flask.permissions.scopes import ALL

    tokens, now = TokenStore(store), datetime.now(UTC)
    for former in tokens.list(DEFAULT_TENANT):
        if former.command == command and former.is_valid_at(now):
            tokens.revoke(former.id)
    token, record = tokens.create(command, ALL, DEFAULT_TENANT, now + TOKEN_LIFETIME, command=command)
    return {"token": token, "id": record.id, "expires": record.to_dict()["expires"]}


def curl_command(token: str, url: str) -> str:
    """Return a curl command to paste into a terminal."""
    return f'  curl -H "Authorization: Bearer {token}" "{url}{EXAMPLE_PATH}"'


def echo_status(settings: Settings, text: str) -> None:
    """Print a text for the operator on stderr. With `log_format` json it is one JSON object, as all lines are."""
    from chalk_flask.logs import JsonFormatter

    if settings.log_format == "json":
        text = JsonFormatter().format(logging.LogRecord(log.name, logging.INFO, "", 0, text, None, None))
    click.echo(text, err=True)


def first_administrator_text(store: Backend, settings: Settings, setup_link: SetupLink, url: str) -> str | None:
    """Return how the first administrator is created: with a new link, or with a command if the text is for a log.

    Each reader of the log could use the link, because it is a credential. A store that no command can open always gets
    a link. Return None if the store has an administrator, and without the admin console. `url` is the URL of the
    service. Raises StorageError.
    """
    is_for_log = settings.log_format == "json" or _is_stored_in_journal()
    if not (is_for_log and store.durable):
        return setup_link_text(settings, setup_link, url)
    if not settings.console or not setup_link.is_needed():
        return None
    return complete_hints(
        "There is no administrator yet. Create the first one: chalk-flask admin create NAME --operator"
    )


def _is_stored_in_journal() -> bool:
    """Return True if stderr is the stream that systemd names in JOURNAL_STREAM, by device and inode."""
    status = os.fstat(STDERR_FILENO)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def setup_link_text(settings: Settings, setup_link: SetupLink, url: str) -> str | None:
    """Return the sentence with a new link for the first administrator.

    None if the store has an administrator, and without the admin console. `url` is the URL of the service, unless
    the setting `public_url` has another one.
    """
    from backends import StorageError

    if not settings.console:
        return None
    try:
        secret = setup_link.create()
    except StorageError as error:
        return f"There is no link for the first administrator, because the store cannot be written: {error}"
    if secret is None:
        return None
    link = f"{settings.public_url or url}/setup/{secret}"
    return f"There is no administrator yet. Create the first one within 24 hours: {link}"


@contextmanager
def open_service(
    options: dict[str, Any], *, with_worker: bool = True, watches_worker: bool = True
) -> Iterator[tuple[Flask, Services]]:
    """Create the application, log to stderr, deliver webhooks and mail and run jobs until the block ends.

    Closes the store. Without `with_worker` another process must do this. With `watches_worker`, the log warns while
    there is none. Raises StorageError if the store cannot be read.
    """
    from chalk_flask.background.allocator import trimmed_memory
    from chalk_flask.shared_state import SHARED_STATE_FILE

    with _open_application(options) as (app, services), trimmed_memory(), ExitStack() as stack:
        for service in (services.sessions, services.login_log, services.access_log, services.jwt_verifier):
            stack.enter_context(closing(service))
        if services.store.durable:
            services.access_log.start()
        if services.store.durable and services.store.shared:
            stack.enter_context(closing(services.shared_state))
            services.shared_state.start(Path(services.settings.data) / SHARED_STATE_FILE)
        services.jwt_verifier.start()
        stack.enter_context(
            _running_workers(services) if with_worker else _idle_workers(services, watched=watches_worker)
        )
        yield app, services


@contextmanager
def open_worker(options: dict[str, Any]) -> Iterator[Services]:
    """Log to stderr, deliver webhooks and mail and run jobs until the block ends, without serving requests.

    Closes the store. Raises StorageError if the store cannot be read.
    """
    with _open_application({**options, "console": False}) as (_, services), _running_workers(services):
        yield services


@contextmanager
def _open_application(options: dict[str, Any]) -> Iterator[tuple[Flask, Services]]:
    from chalk_flask import create_app
    from chalk_flask.background.allocator import limit_arenas
    from chalk_flask.data_folder_binding import bind_data_folder
    from chalk_flask.logs import configure_logging
    from chalk_flask.metrics import counted_log_messages
    from chalk_flask.storage import check_readable

    limit_arenas()
    app = create_app(**options)
    services: Services = app.extensions["chalk"]
    with services.store:
        check_key_files(Path(services.settings.data))
        configure_logging(services.settings)  # first, because it does nothing if the program has a log already
        bind_data_folder(services.store, services.settings)
        with counted_log_messages(services.metrics):
            check_readable(services.store)
            yield app, services


@contextmanager
def _running_workers(services: Services) -> Iterator[None]:
    workers = (services.worker, services.job_worker, services.mail_worker)
    with ExitStack() as stack:
        for worker in workers:
            stack.enter_context(closing(worker))
            worker.start()
        yield


@contextmanager
def _idle_workers(services: Services, *, watched: bool) -> Iterator[None]:
    from chalk_flask.monitoring.worker_watch import WorkerWatch

    with closing(services.worker), closing(services.job_worker), closing(WorkerWatch(services)) as watch:
        if watched:
            watch.start()
        yield


def check_key_files(folder: Path) -> None:
    """Raise CommandError for a key file that is damaged or that other users can access."""
    from chalk_flask.auth.clients.access_tokens import ACCESS_TOKEN_KEY_FILE
    from chalk_flask.auth.secrets.encryption import SECRETS_KEY_FILE
    from chalk_flask.auth.secrets.key_file import KeyFile, KeyFileError

    try:
        for name in (ACCESS_TOKEN_KEY_FILE, SECRETS_KEY_FILE):
            KeyFile(folder / name).read()
    except KeyFileError as error:
        raise CommandError(str(error)) from error


def run_server(app: Flask, services: Services, on_ready: Callable[[str], None]) -> None:
    """Serve until a signal arrives. Calls `on_ready` with the URL when it listens. Raises CommandError."""
    from chalk_flask.api.reads import request_classifier
    from chalk_flask.server import BindError, serve

    started, manager = time.monotonic(), _service_manager()

    def on_listening(url: str) -> None:
        log_start(services.settings, url)
        on_ready(url)
        if manager is not None:
            manager.notify_ready()

    def on_stop(number: int) -> None:
        _log_signal(number)
        if manager is not None:
            manager.notify_stopping()

    on_check = manager.notify_alive if manager is not None else None
    try:
        serve(
            app,
            services.settings,
            on_listening,
            body_limit_of(services),
            on_stop,
            on_check=on_check,
            classify_request=request_classifier(services),
            watch_commits=services.store.watch_commits,
        )
    except BindError as error:
        raise CommandError(str(error)) from error
    log_end("service.stopped", "the service has stopped", started)


def _service_manager() -> ServiceManager | None:
    """Return systemd if it started this process. SIGHUP, by which it requests a reload, is ignored then."""
    if "NOTIFY_SOCKET" not in os.environ:
        return None
    from chalk_flask.supervisor import ServiceManager

    message = (
        "SIGHUP is ignored: one process cannot reload its settings, so restart it, or set `processes` to 2 or more"
    )
    signal.signal(signal.SIGHUP, lambda *_: log.warning(message))
    return ServiceManager.from_environ()


def body_limit_of(services: Services) -> BodyLimit:
    """Return the function that accepts large bodies with packages: those of the API, and of the console if it is on."""
    from chalk_flask.api.admin import package_body_limit

    limits = [package_body_limit(services)]
    if services.settings.console:
        from chalk_flask.console.upload_limit import upload_limit

        limits.append(upload_limit(services))
    return lambda head: next((found for limit in limits if (found := limit(head)) is not None), None)


def wait_for_signal(services: Services) -> None:
    """Wait for SIGTERM or SIGINT in a process that only runs the workers, and log its start and its end."""
    started = time.monotonic()
    numbers = (signal.SIGTERM, signal.SIGINT)
    received: list[int] = []
    before = {number: signal.signal(number, lambda got, _: received.append(got)) for number in numbers}
    _log_process(services.settings, "worker.started", "this process sends webhooks and mail, and runs jobs")
    try:
        while not received:
            signal.pause()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    log_end("worker.stopped", "the worker has stopped", started)


def log_start(settings: Settings, url: str, **members: int) -> None:
    """Log that the service accepts requests at this URL."""
    _log_process(settings, "service.started", "the service accepts requests", url=url, **members)


def _log_process(settings: Settings, event: str, message: str, **members: str | int) -> None:
    from chalk_flask import __version__
    from chalk_flask.logs import log_event

    storage = settings.storage.partition(":")[0]  # the rest of the URL may contain a password
    log_event(log, logging.INFO, event, message, **members, version=__version__, storage=storage)


def _log_signal(number: int) -> None:
    from chalk_flask.logs import log_event

    name = signal.Signals(number).name
    log_event(log, logging.INFO, "service.stopping", "the service completes active requests and stops", signal=name)


def log_end(event: str, message: str, started: float) -> None:
    """Log the end of a process that was started at this time of `time.monotonic`."""
    from chalk_flask.logs import log_event

    log_event(log, logging.INFO, event, message, seconds=round(time.monotonic() - started, 1))
