"""Supervisor of several processes that serve one store on one address.

The listening sockets and the function that serves go in. `Supervisor` is the entry point: `run` starts the processes,
replaces and reloads them, and returns the exit code. A serving process gets its `Assignment`. `ServiceManager` sends
the state of the service to systemd.
"""

from chalk_flask.supervisor.assignment import Assignment, Report
from chalk_flask.supervisor.listeners import open_listeners
from chalk_flask.supervisor.restarts import CrashLoopError
from chalk_flask.supervisor.service_manager import NOTIFY_VARIABLES, ServiceManager
from chalk_flask.supervisor.serving_process import Launcher
from chalk_flask.supervisor.supervisor import ReloadError, Supervisor

__all__ = [
    "NOTIFY_VARIABLES",
    "Assignment",
    "CrashLoopError",
    "Launcher",
    "ReloadError",
    "Report",
    "ServiceManager",
    "Supervisor",
    "open_listeners",
]
