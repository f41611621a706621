"""Client of OneRoster 1.1 providers: a URL and a credential go in, pages of records come out.

`Provider` is the entry point. `HttpClient` sends its requests, with retries and limits.
"""

from chalk_flask.sources.client.provider import FilterRejectedError, Page, Provider

__all__ = ["FilterRejectedError", "Page", "Provider"]
