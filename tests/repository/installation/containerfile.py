"""Parsed container file: its stages, and the values of their instructions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tests.support.paths import ROOT

__all__ = ["CONTAINERFILE", "IGNORED", "Instructions", "Stage", "read_stages"]

CONTAINERFILE = ROOT / "config" / "Containerfile"
IGNORED = ROOT / ".dockerignore"

Instructions: TypeAlias = list[tuple[str, str]]


@dataclass(frozen=True)
class Stage:
    """Instructions of a stage with their values, in order. The first one is FROM."""

    instructions: Instructions

    def values(self, name: str) -> list[str]:
        """Return the values of all instructions with this name."""
        return [value for instruction, value in self.instructions if instruction == name]

    def value(self, name: str) -> str:
        """Return the value of the only instruction with this name."""
        [only] = self.values(name)
        return only

    def environment(self) -> dict[str, str]:
        """Return the variables of ENV."""
        return dict(pair.split("=", 1) for pair in self.values("ENV"))

    def command(self) -> list[str]:
        """Return the command line of a container that is started without arguments."""
        return [*json.loads(self.value("ENTRYPOINT")), *json.loads(self.value("CMD"))]

    def health_check(self) -> list[str]:
        """Return the command line of HEALTHCHECK."""
        parsed: list[str] = json.loads(self.value("HEALTHCHECK").partition(" CMD ")[2])
        return parsed


def read_stages(path: Path = CONTAINERFILE) -> list[Stage]:
    """Return the stages of a container file without continued lines."""
    stages: list[Stage] = []
    for name, value in _read_instructions(path):
        if name == "FROM":
            stages.append(Stage([]))
        stages[-1].instructions.append((name, value))
    return stages


def _read_instructions(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition(" ")
            yield name, value
