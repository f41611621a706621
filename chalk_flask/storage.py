"""What a store of the service keeps: the roster, and what is needed beside it."""

from __future__ import annotations

from backends import COPY_MARKER, Collection, Field
from chalk_flask.oneroster.schemas import FILES

__all__ = ["COLLECTIONS"]

COLLECTIONS: tuple[Collection, ...] = (
    *(resource.collection for resource in FILES.values()),
    # The stamp of the last write transaction, so that the next one is above it.
    Collection("clock", bumps_revision=False),
    # Which records of the gradebook a grade tool wrote, so that imports leave them alone.
    Collection("origins", (Field("collection"), Field("record", indexed=True)), bumps_revision=False),
    # The number of each record's last change, for those who follow.
    Collection("sequence", (Field("number", "number", indexed=True), Field("collection")), bumps_revision=False),
    # What imports did, by their ids, and those that are held.
    Collection("imports", (Field("started", indexed=True), Field("state"), Field("package")), bumps_revision=False),
    # Who is told of changes, what they are sent, and how far that has come; by id, by number, by number.
    Collection("webhooks", bumps_revision=False),
    Collection("outbox", bumps_revision=False),
    Collection(
        "deliveries",
        (
            Field("webhook", indexed=True),
            Field("queue", indexed=True, low_cardinality=True),
            Field("due", "number"),
            Field("event", indexed=True),
            Field("time", indexed=True),
            Field("state"),
        ),
        bumps_revision=False,
    ),
    # In the reserved tenant `_control`: that a copy of another store has begun to fill this one.
    COPY_MARKER,
    # Bearer tokens by their SHA-256, there as well.
    Collection("tokens", (Field("id", indexed=True), Field("tenant", indexed=True)), bumps_revision=False),
    # There as well: tenants by name, OAuth clients and trusted issuers by their ids.
    Collection("tenants", bumps_revision=False),
    Collection("clients", (Field("tenant", indexed=True),), bumps_revision=False),
    Collection("issuers", (Field("tenant", indexed=True), Field("issuer", indexed=True)), bumps_revision=False),
    # What changed something, in its tenant, by moment.
    Collection("audit", (Field("time", indexed=True), Field("event")), bumps_revision=False),
)
"""Every collection, to be given to `backends.open_store`."""
