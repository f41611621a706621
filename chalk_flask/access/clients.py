"""OAuth clients: made, listed, revoked, given new secrets, and told by their secrets."""

from __future__ import annotations

from chalk_flask.access.client_records import ClientRecord, KeptSecret

__all__ = ["COLLECTION", "ClientRecord", "KeptSecret"]

COLLECTION = "clients"
