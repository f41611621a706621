"""Metrics of a process: counters of requests, streams and log messages, in the format of Prometheus.

`ServiceMetrics` is the entry point. Numbers that the store knows come from `chalk_flask.monitoring` instead.
"""

from chalk_flask.metrics.log_counter import counted_log_messages
from chalk_flask.metrics.request_counter import RequestCounter
from chalk_flask.metrics.service_metrics import CONTENT_TYPE, NO_ROUTE, ServiceMetrics, known_method, share_metrics
from chalk_flask.metrics.shared_folder import (
    FOLDER_VARIABLE,
    METRICS_FOLDER,
    empty_folder,
    forget_process,
)

__all__ = [
    "CONTENT_TYPE",
    "FOLDER_VARIABLE",
    "METRICS_FOLDER",
    "NO_ROUTE",
    "RequestCounter",
    "ServiceMetrics",
    "counted_log_messages",
    "empty_folder",
    "forget_process",
    "known_method",
    "share_metrics",
]
