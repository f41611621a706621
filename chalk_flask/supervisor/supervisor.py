"""Loop of the supervisor: it starts serving processes, replaces dead ones, reloads and stops them."""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from chalk_flask.logs import log_event
from chalk_flask.server import SHUTDOWN_SECONDS
from chalk_flask.supervisor.restarts import CrashLoopError, RestartPolicy, describe_exit
from chalk_flask.supervisor.service_manager import ServiceManager
from chalk_flask.supervisor.serving_process import Closable, Launcher, ServingProcess
from chalk_flask.supervisor.signals import SignalSocket, caught_signals

__all__ = ["ReloadError", "Supervisor"]

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = SHUTDOWN_SECONDS + 5
"""Time after which a process that was stopped is killed. It ends within SHUTDOWN_SECONDS, and closes the store then."""
START_SECONDS: Final = 300.0
"""Time within which a process must be ready that replaces another one. The first start has no limit: it may migrate."""
SILENT_SECONDS: Final = 10.0
"""Time after which others cover a process that sends no report. A process sends one per second.

The watchdog of systemd is not reset then.
"""
HUNG_SECONDS: Final = 30.0
"""Time without a report after which a process is killed and replaced."""


class ReloadError(Exception):
    """Error for new settings that cannot be applied. The message contains the reason."""


class Supervisor:
    """Supervisor of one process for each element of `listeners`, which are the sockets from which it accepts.

    `on_ready` is called when the first process serves. `on_reload` is called before a reload, and raises
    ReloadError to prevent it. `on_end` is called with each process that has ended, and its exit status.
    """

    def __init__(
        self,
        launcher: Launcher,
        listeners: Sequence[Sequence[socket.socket]],
        *,
        on_ready: Callable[[], None],
        on_reload: Callable[[], None] = lambda: None,
        on_end: Callable[[ServingProcess, int], None] = lambda *_: None,
        manager: ServiceManager | None = None,
    ) -> None:
        self._launcher, self._listeners = launcher, listeners
        self._on_ready, self._on_reload, self._on_end = on_ready, on_reload, on_end
        self._manager = manager or ServiceManager.from_environ()
        self._selector = selectors.DefaultSelector()
        self._signals: SignalSocket | None = None
        self._restarts = RestartPolicy()
        self._processes: dict[ServingProcess, int] = {}
        """All processes that have not ended, with their generation. A reload starts a new generation."""
        self._generation = 0
        self._starting: int | None = None
        """Generation that is about to replace the present one. The first one replaces none."""
        self._due: dict[int, float] = {}
        """Time at which the dead process of a slot is replaced."""
        self._reload_requested = self._is_stopping = self._is_announced = False
        self._exit_code = 0
        self._error: CrashLoopError | None = None
        self._last_check = time.monotonic()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT, or until the first start fails, and return the exit code.

        Raises CrashLoopError. Call it in the main thread, which receives the signals.
        """
        with caught_signals() as signals, self._selector:
            self._signals = signals
            self._selector.register(signals, selectors.EVENT_READ)
            try:
                self._starting = 1
                while not self._is_stopping or self._processes:
                    self._run_once(signals)
            finally:
                self._end_all()
        if self._error is not None:
            raise self._error
        return self._exit_code

    def _run_once(self, signals: SignalSocket) -> None:
        self._start_missing()
        self._announce()
        self._selector.select(self._timeout())
        for number in signals.take():
            self._handle_signal(number)
        self._collect()
        self._complete_start()
        self._kill_overdue()
        self._cover_missing()
        self._manager.notify_alive(lambda: not self._missing_slots())

    def _timeout(self) -> float:
        waits = [due - time.monotonic() for due in self._due.values()]
        return max(0.0, min(CHECK_SECONDS, *waits)) if waits else CHECK_SECONDS

    def _handle_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            if not self._is_stopping:
                name = signal.Signals(number).name
                message = "the service completes active requests and stops"
                log_event(log, logging.INFO, "service.stopping", message, signal=name)
                self._stop()
            else:  # the processes end at once
                self._stop_processes(self._processes)
        elif number == signal.SIGHUP:
            self._reload_requested = True

    def _start_missing(self) -> None:
        """Start the processes that are missing. The others of a generation start when the first one is ready."""
        if self._is_stopping:
            return
        if self._reload_requested and self._starting is None:
            self._begin_reload()
        slots, now = range(len(self._listeners)), time.monotonic()
        due = [slot for slot in slots if self._due.get(slot, 0.0) <= now]
        if self._generation:
            self._start(due, self._generation)
        if self._starting is not None:
            is_proven = any(process.is_ready for process in self._of(self._starting))
            startable = slots if self._generation else due
            self._start(startable if is_proven else startable[:1], self._starting)

    def _announce(self) -> None:
        """Call `on_ready` once, after the other processes were started: it may take some time."""
        if not self._is_announced and any(process.is_ready for process in self._processes):
            self._is_announced = True
            self._on_ready()

    def _start(self, slots: Iterable[int], generation: int) -> None:
        served = {process.slot for process in self._of(generation) if process.serves}
        for slot in slots:
            if slot not in served:
                self._due.pop(slot, None)
                self._launch(slot, generation)

    def _launch(self, slot: int, generation: int) -> None:
        used = {process.number for process in self._processes}
        number = next(each for each in range(1, len(used) + 2) if each not in used)
        try:
            process = self._launcher.start(slot, number, self._listeners, self._own_descriptors())
        except OSError as error:
            log.error("a serving process cannot be started: %s", error.strerror)
            if generation == self._starting:
                self._give_up_start(1)
            else:
                self._due[slot] = time.monotonic() + CHECK_SECONDS
            return
        self._processes[process] = generation
        self._selector.register(process.control, selectors.EVENT_READ)

    def _own_descriptors(self) -> list[Closable]:
        """Return the descriptors that a serving process must close.

        An open copy hides the death of the supervisor or of another process.
        """
        signals = [] if self._signals is None else [self._signals]
        return [self._selector, *signals, *(process.control for process in self._processes)]

    def _begin_reload(self) -> None:
        self._reload_requested = False
        self._manager.notify_reloading()
        try:
            self._on_reload()
        except ReloadError as error:
            self._report_failed_reload(str(error))
            return
        self._starting = self._generation + 1

    def _report_failed_reload(self, reason: str) -> None:
        message = "the reload has failed, so the former processes and settings stay"
        log_event(log, logging.ERROR, "service.reload_failed", message, reason=reason)
        self._manager.notify_ready()

    def _collect(self) -> None:
        """Read the reports, and handle the end of processes."""
        now = time.monotonic()
        # After a suspension of the machine or of this process, the last reports are old.
        was_suspended = now > self._last_check + 2 * CHECK_SECONDS + SILENT_SECONDS / 2
        self._last_check = now
        for process in list(self._processes):
            process.read_reports()
            if process.status is not None:
                self._handle_end(process, process.status)
            elif process.is_stopping and process.kill_at is None:  # another program has sent SIGTERM to it
                process.kill_at = now + DRAIN_SECONDS
            if was_suspended:
                process.last_report = now

    def _handle_end(self, process: ServingProcess, status: int) -> None:
        generation = self._processes.pop(process)
        self._selector.unregister(process.control)
        process.close()
        self._on_end(process, status)
        if self._is_stopping or process.is_stopping:
            return
        if generation == self._starting and (self._generation or not process.is_ready):
            self._give_up_start(status)
            return
        age = time.monotonic() - process.started
        message = "a serving process has ended, and is replaced"
        reason = describe_exit(status)
        log_event(log, logging.WARNING, "process.ended", message, pid=process.pid, reason=reason, seconds=round(age, 1))
        try:
            delay = self._restarts.delay_after(status, age, time.monotonic(), was_ready=process.is_ready)
        except CrashLoopError as error:
            self._error = error
            self._stop()
        else:
            self._due[process.slot] = time.monotonic() + delay

    def _give_up_start(self, status: int) -> None:
        """End the service if its first start fails. After a failed reload, the former processes continue."""
        if not self._generation:
            if status <= 0:
                log.error("the service cannot start: a serving process ended with %s", describe_exit(status))
            self._exit_code = status if status > 0 else 1
            self._stop()
            return
        failed, self._starting = self._of(self._starting), None
        self._stop_processes(failed)
        self._report_failed_reload(f"a new process ended with {describe_exit(status)}")

    def _complete_start(self) -> None:
        """Replace the present generation by the new one when all of its processes are ready."""
        if self._starting is None or self._is_stopping:
            return
        ready = {process.slot for process in self._of(self._starting) if process.is_ready and process.serves}
        if len(ready) < len(self._listeners):
            return
        former, is_reload = self._of(self._generation), bool(self._generation)
        self._generation, self._starting = self._starting, None
        self._due.clear()
        self._stop_processes(process for process in former if not process.is_stopping)
        self._manager.notify_ready()
        if is_reload:
            message = "new processes with the present settings serve, and the former ones complete their requests"
            log_event(log, logging.INFO, "service.reloaded", message, processes=len(ready))

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for process in self._processes:
            if process.kill_at is not None:
                overdue = now >= process.kill_at
            elif process.is_ready:
                overdue = now >= process.last_report + HUNG_SECONDS
            else:
                overdue = bool(self._generation) and now >= process.started + START_SECONDS
            if overdue:
                log.warning("serving process %d does not report or end in time, and is killed", process.pid)
                process.kill()

    def _missing_slots(self) -> frozenset[int]:
        """Return the slots whose process is dead, stops, starts or does not report."""
        return frozenset(range(len(self._listeners))) - {process.slot for process in self._reporting()}

    def _cover_missing(self) -> None:
        """Make the processes that report accept the connections of missing ones."""
        if not self._is_stopping:
            missing = self._missing_slots()
            for process in self._reporting():
                process.cover(missing)

    def _reporting(self) -> list[ServingProcess]:
        earliest = time.monotonic() - SILENT_SECONDS
        present = self._of(self._generation or self._starting)
        return [each for each in present if each.is_ready and each.serves and each.last_report >= earliest]

    def _of(self, generation: int | None) -> list[ServingProcess]:
        return [process for process, own in self._processes.items() if own == generation]

    def _stop(self) -> None:
        """Refuse new connections, and let each process complete its requests."""
        self._is_stopping = True
        self._manager.notify_stopping()
        self._close_listeners()
        self._stop_processes(process for process in self._processes if not process.is_stopping)

    @staticmethod
    def _stop_processes(processes: Iterable[ServingProcess]) -> None:
        for process in processes:
            process.stop(DRAIN_SECONDS)

    def _end_all(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            process.close()
        self._close_listeners()

    def _close_listeners(self) -> None:
        for slot in self._listeners:
            for listener in slot:
                listener.close()
