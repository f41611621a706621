"""Process that unzips and parses the large files of a package, while its caller checks and writes their rows.

A package and its reading options go in. `ParserProcess.start` is the entry point. Out come parsed rows in the order of
the file, and invalid rows as they are, which the caller parses again to find their errors.
"""

from chalk_flask.roster.package.parser_process.process import (
    ParserProcess,
    ParserProcessError,
    ProcessEndedError,
)

__all__ = ["ParserProcess", "ParserProcessError", "ProcessEndedError"]
