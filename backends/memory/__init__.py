"""Memory backend: the reference that every other backend agrees with."""

from backends.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
