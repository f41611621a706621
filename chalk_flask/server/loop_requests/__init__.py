"""Loop requests, which the server loop runs itself while no thread is at work on a long request.

Two threads that need the interpreter at once slow each other down. Connections with a request go in. `LoopQueue` runs
the request in the thread of the server loop if `LoopKinds` allows it, by the times of earlier requests of its kind. A
request that must wait after all ends by ThreadRequired or WaitRequired before it has an effect. A thread then runs it
from its beginning. The application calls `require_thread` before it waits or has an effect. `LoopQueue` is the entry
point.
"""

from chalk_flask.server.loop_requests.loop_kinds import MAX_LOOP_SECONDS, ClassifyRequest, LoopKinds
from chalk_flask.server.loop_requests.loop_queue import LoopQueue
from chalk_flask.server.loop_requests.thread_required import IN_LOOP_KEY, ThreadRequired, require_thread

__all__ = [
    "IN_LOOP_KEY",
    "MAX_LOOP_SECONDS",
    "ClassifyRequest",
    "LoopKinds",
    "LoopQueue",
    "ThreadRequired",
    "require_thread",
]
