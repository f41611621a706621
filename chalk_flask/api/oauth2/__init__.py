"""OAuth 2 token endpoint: client credentials come in, access tokens go out (RFC 6749, section 4.4).

`TokenEndpoint` is the entry point. `register_login_hooks` adds the login log and the limit on failed attempts to it.
"""

from chalk_flask.api.oauth2.login_hooks import register_login_hooks
from chalk_flask.api.oauth2.token_endpoint import TokenEndpoint

__all__ = ["TokenEndpoint", "register_login_hooks"]
