"""Short requests, which the server loop runs itself while no thread is at work on a long one.

Two threads that need the interpreter at once slow each other down. `DueRequests` gets the connections whose next
request is short, and runs these requests in the thread of the server loop. `ShortKinds` decides which ones are short,
by the times of earlier requests of the same kind. A request that must wait, or is long after all, ends by
ThreadRequired before it has an effect. A thread then runs it from its beginning. The application calls
`require_thread` before it waits.
"""

from chalk_flask.server.short_requests.due_requests import DueRequests
from chalk_flask.server.short_requests.short_kinds import LONG_REQUEST_SECONDS, RequestKind, ShortKinds
from chalk_flask.server.short_requests.thread_required import IN_LOOP_KEY, ThreadRequired, require_thread

__all__ = [
    "IN_LOOP_KEY",
    "LONG_REQUEST_SECONDS",
    "DueRequests",
    "RequestKind",
    "ShortKinds",
    "ThreadRequired",
    "require_thread",
]
