"""OAuth clients: `ClientStore` creates, lists, rotates, revokes and authenticates them.

`access_tokens` issues and verifies the access tokens that clients obtain. `assertions` verifies the client assertions
of clients with a key.
"""

from chalk_flask.auth.clients.record import OAuthClient
from chalk_flask.auth.clients.store import ClientError, ClientStore

__all__ = ["ClientError", "ClientStore", "OAuthClient"]
