"""JSON backend, opened by `json:///folder`: a folder of readable files for each tenant."""

from backends.jsonfile.backend import JSONFileBackend

__all__ = ["JSONFileBackend"]
