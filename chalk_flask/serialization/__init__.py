"""The only way by which records leave the service, and by which hidden members survive a write.

`DocumentSerializer` renders stored documents for one access policy: reads, write responses, the change feed and
webhooks use it. `HiddenMembers` and `MetadataNames` keep what a writer cannot see. A test rejects outputs that use
neither.
"""

from __future__ import annotations

from chalk_flask.serialization.hidden_members import HiddenMemberError, HiddenMembers
from chalk_flask.serialization.metadata_names import HiddenNameError, MetadataNames
from chalk_flask.serialization.redaction import RedactionCache, ReferenceLookup
from chalk_flask.serialization.serializer import DocumentSerializer

__all__ = [
    "DocumentSerializer",
    "HiddenMemberError",
    "HiddenMembers",
    "HiddenNameError",
    "MetadataNames",
    "RedactionCache",
    "ReferenceLookup",
]
