"""JSON backend: a folder per tenant that a person can read and compare."""

from backends.jsonfile.backend import JSONFileBackend

__all__ = ["JSONFileBackend"]
