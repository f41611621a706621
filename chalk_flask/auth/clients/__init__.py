"""OAuth clients: credentials of a client come in, the client or an access token goes out.

`ClientStore` is the entry point: it creates, lists, rotates, revokes and authenticates clients. `access_tokens` issues
and verifies their access tokens. `assertions` verifies the client assertions of clients with a key.
"""

from chalk_flask.auth.clients.record import OAuthClient
from chalk_flask.auth.clients.store import ClientError, ClientStore

__all__ = ["ClientError", "ClientStore", "OAuthClient"]
