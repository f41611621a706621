"""State that the serving processes of a store share, and that survives a restart: used ids, attempts and other values.

Ids of credentials that are accepted once, failures, attempts, key sets and numbers of records go in. `SharedState` is
the entry point: `attempt` runs an operation on the file that all processes use, or its replacement in the memory of
this process. Used credentials and attempts are in the store instead if several machines use it (`credential_state`).
"""

from chalk_flask.shared_state.shared_state import SHARED_STATE_FILE, SharedState, credential_state
from chalk_flask.shared_state.used_id_counter import UsedIdCounter

__all__ = ["SHARED_STATE_FILE", "SharedState", "UsedIdCounter", "credential_state"]
