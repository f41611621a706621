"""Command line with which the program starts further processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import chalk_flask

__all__ = ["python_command"]

_PACKAGE_FOLDER: Final = str(Path(chalk_flask.__file__).parents[1])


def python_command(module: str) -> list[str]:
    """Return the command line that calls the function `main` of a module of the program."""
    # The program is not started with -m, which would also search modules in the working directory.
    program = f"import sys; sys.path.append(sys.argv[1]); from {module} import main; main()"
    return [sys.executable, "-P", "-c", program, _PACKAGE_FOLDER]
