"""Memory backend, opened by `memory:`. The reference that every other backend must agree with."""

from backends.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
