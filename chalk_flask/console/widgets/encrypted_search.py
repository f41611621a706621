"""Parameter `search` of URLs: what an administrator typed into a search box or a filter, encrypted.

Typed texts may be names or e-mail addresses. A form posts them, and the server redirects to a URL with this parameter.
So the history of the browser, the log of a proxy and the Referer header contain none of them. The URL can be reloaded,
shared with another administrator of the tenant, and used after a restart.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flask import request
from werkzeug.exceptions import BadRequest

from chalk_flask.console.context import current
from chalk_flask.console.session_cookie import page_sessions

__all__ = ["MAX_FILTER_LENGTH", "MAX_SEARCH_LENGTH", "decrypt_search", "encrypt_search"]

MAX_SEARCH_LENGTH = 200
"""Maximum length in characters of a search text, which keeps the URL short."""
MAX_FILTER_LENGTH = 2000

INVALID_SEARCH_MESSAGE = (
    "The search in this address cannot be read: it belongs to another tenant, it was made with a former key of the"
    " service, or the address is incomplete. Open the page from the navigation, and search again."
)

_PARAMETER = "search"
_KEY_BYTES = 64
_KEY_PURPOSE = b"console-search"


def encrypt_search(**texts: str) -> str | None:
    """Return the value of the parameter `search` for texts by name; None if all are empty.

    Within a tenant, equal texts have equal values, so that each search has one URL. Raises KeyFileError.
    """
    given = {name: text for name, text in texts.items() if text}
    if not given:
        return None
    encrypted = _cipher().encrypt(orjson.dumps(given), [current().tenant.encode()])
    return urlsafe_b64encode(encrypted).rstrip(b"=").decode()


def decrypt_search() -> Mapping[str, str]:
    """Return the texts of the current URL by name. Raises BadRequest if they are not from this tenant and service.

    Raises KeyFileError.
    """
    value = request.args.get(_PARAMETER, "")
    if not value:
        return {}
    try:
        encrypted = urlsafe_b64decode(value.encode() + b"=" * (-len(value) % 4))
        found: Mapping[str, str] = orjson.loads(_cipher().decrypt(encrypted, [current().tenant.encode()]))
    except (InvalidTag, ValueError) as error:
        raise BadRequest(INVALID_SEARCH_MESSAGE) from error
    return found


def _cipher() -> AESSIV:
    """Return a cipher whose key is derived from the key of the console. It needs no random value for each text."""
    return AESSIV(HKDF(SHA256(), _KEY_BYTES, salt=None, info=_KEY_PURPOSE).derive(page_sessions().key()))
