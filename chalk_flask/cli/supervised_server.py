"""Serving with several processes: the supervisor, and a process that it starts."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from chalk_flask.cli.errors import CommandError
from chalk_flask.cli.hints import ARGUMENTS
from chalk_flask.cli.local_server import body_limit_of, log_end, log_start, open_service
from chalk_flask.cli.options import settings_from_options
from chalk_flask.settings import Settings, SettingsError, process_count

if TYPE_CHECKING:
    from chalk_flask.supervisor import Assignment
    from chalk_flask.supervisor.serving_process import ServingProcess

__all__ = ["check_processes", "prepare_metrics", "run_assigned", "run_supervisor"]

FIXED_SETTINGS: Final = ("storage", "data", "host", "port", "processes", "metrics")
"""Settings that a reload cannot change."""

log = logging.getLogger(__name__)


def check_processes(settings: Settings) -> None:
    """Raise SettingsError if several processes are to serve a store of a kind that only one can serve."""
    from backends import backend_class

    if settings.processes > 1 and not backend_class(settings.storage).parallel:
        scheme = settings.storage.partition(":")[0]
        raise SettingsError(
            f"processes cannot be {settings.processes} for a store of the kind {scheme}: set it to 1, or use a SQLite"
            " store (a path such as district.db), which several processes can serve"
        )


def prepare_metrics(settings: Settings) -> Path | None:
    """Return the folder in which the processes share their metrics, after those of former processes are deleted.

    None without metrics, and if the operator has named another folder. Raises OSError.
    """
    from chalk_flask.metrics import FOLDER_VARIABLE, empty_folder

    if not settings.metrics or FOLDER_VARIABLE in os.environ:
        return None
    folder = _own_metrics_folder(settings)
    empty_folder(folder)
    return folder


def _own_metrics_folder(settings: Settings) -> Path:
    from chalk_flask.metrics import METRICS_FOLDER

    return Path(settings.data) / METRICS_FOLDER


def _forget_metrics(own_folder: Path | None, process: ServingProcess) -> None:
    """Delete the values that count only while a process runs. In a folder of the operator, its id names its files."""
    from chalk_flask.metrics import FOLDER_VARIABLE, forget_process

    if own_folder is not None:
        forget_process(own_folder, process.number)
    elif folder := os.environ.get(FOLDER_VARIABLE):
        forget_process(Path(folder), process.pid)


def _handle_end(own_folder: Path | None, process: ServingProcess, status: int) -> None:
    """Delete the metrics of a process that has ended. After SIGBUS, stop all processes from mapping the store."""
    from backends.sqlite.connection import disable_mapping

    _forget_metrics(own_folder, process)
    if status == -signal.SIGBUS:
        disable_mapping()
        log.error(
            "process %d could not read a page of the store: the disk has an error, or another program has made the file"
            " smaller; check the disk, and run `chalk-flask check`",
            process.pid,
        )


def run_supervisor(
    settings: Settings, options: Mapping[str, Any], metrics: Path | None, on_ready: Callable[[str], None]
) -> None:
    """Serve with several processes until a signal arrives. Calls `on_ready` with the URL when the first process serves.

    `metrics` is the folder of `prepare_metrics`. Raises CommandError.
    """
    from chalk_flask.logs import configure_logging
    from chalk_flask.metrics import FOLDER_VARIABLE
    from chalk_flask.server import BindError, local_url
    from chalk_flask.supervisor import CrashLoopError, Launcher, Supervisor, open_listeners

    started = time.monotonic()
    configure_logging(settings)
    try:
        listeners = open_listeners(settings.host, settings.port, process_count(settings))
    except BindError as error:
        raise CommandError(str(error)) from error
    url = local_url(settings.host, listeners[0][0].getsockname()[1])

    def on_first_ready() -> None:
        log_start(settings, url, processes=len(listeners))
        on_ready(url)

    if metrics is not None:
        os.environ[FOLDER_VARIABLE] = str(metrics)
    context = click.get_current_context()
    _import_application(settings)
    supervisor = Supervisor(
        Launcher(lambda assignment: _run_again(context.find_root(), assignment)),
        listeners,
        on_ready=on_first_ready,
        on_reload=lambda: _check_reload(settings, options),
        on_end=lambda process, status: _handle_end(metrics, process, status),
    )
    try:
        code = supervisor.run()
    except CrashLoopError as error:
        raise CommandError(str(error)) from error
    if code:
        context.exit(code)
    log_end("service.stopped", "the service has stopped", started)


def _import_application(settings: Settings) -> None:
    """Import the modules of the application, which takes most of the time of a start, so that the processes share them.

    The garbage collector leaves the present objects alone, because it would write to their memory, and copy it.
    """
    import_module("chalk_flask.factory")
    import_module("backends.sqlite.connection")  # has a flag that the processes share
    if settings.console:
        import_module("chalk_flask.console")
    gc.freeze()


def _run_again(context: click.Context, assignment: Assignment) -> None:
    """Run `serve` again in this forked process, with the settings as they are now."""
    from chalk_flask.supervisor import NOTIFY_VARIABLES

    for handler in logging.getLogger().handlers[:]:
        logging.getLogger().removeHandler(handler)  # so that the settings of this process decide about its log
    for name in NOTIFY_VARIABLES:
        os.environ.pop(name, None)
    context.command.main([*context.meta[ARGUMENTS]], prog_name=context.info_name, obj=assignment)


def _try_to_share_metrics(own_folder: Path, number: int) -> str | None:
    """Write the metrics of this process to the folder of the service. Return the reason if that is impossible.

    The roster can be read while the disk is full, so the process then serves with metrics of its own.
    """
    from chalk_flask.metrics import FOLDER_VARIABLE, share_metrics

    # In a folder of the operator, another service may use the same numbers.
    if os.environ.get(FOLDER_VARIABLE) != str(own_folder):
        return None
    try:
        share_metrics(own_folder, number)
    except OSError as error:
        del os.environ[FOLDER_VARIABLE]
        return f"the folder {own_folder} cannot be written: {error.strerror}: free space, and restart the service"
    return None


def run_assigned(options: dict[str, Any], assignment: Assignment, *, with_worker: bool) -> None:
    """Serve as one of several processes, until SIGTERM or the death of the supervisor."""
    from chalk_flask.api.reads import request_classifier
    from chalk_flask.logs import log_event
    from chalk_flask.server import StandbyListeners, serve
    from chalk_flask.supervisor import Report

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor handles it
    standby = StandbyListeners(assignment.other_listeners)
    supervisor = assignment.connect()
    supervisor.watch(on_cover=standby.select)
    reason = _try_to_share_metrics(_own_metrics_folder(settings_from_options(options)), assignment.number)
    watches_worker = assignment.slot == 0  # the log of one process is enough
    with open_service(options, with_worker=with_worker, watches_worker=watches_worker) as (app, services):
        services.metrics.supervisor_pid = os.getppid()
        if reason is not None:
            log_event(log, logging.WARNING, "metrics.separate", "this process counts its requests alone", reason=reason)
        serve(
            app,
            services.settings,
            lambda _: supervisor.report(Report.READY),
            body_limit_of(services),
            lambda _: supervisor.report(Report.STOPPING),
            on_check=lambda: supervisor.report(Report.ALIVE),
            listeners=assignment.own_listeners,
            standby=standby,
            classify_request=request_classifier(services),
            watch_commits=services.store.watch_commits,
        )


def _check_reload(former: Settings, options: Mapping[str, Any]) -> None:
    """Raise ReloadError for new settings that are invalid or cannot be applied."""
    from chalk_flask.supervisor import ReloadError

    try:
        settings = settings_from_options(options)
    except SettingsError as error:
        raise ReloadError(str(error)) from error
    if changed := [name for name in FIXED_SETTINGS if getattr(settings, name) != getattr(former, name)]:
        raise ReloadError(f"a reload cannot change {', '.join(changed)}: restart the service")
