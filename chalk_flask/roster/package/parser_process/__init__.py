"""Process that unzips and parses the large files of a package, while its caller checks and writes their rows.

A package and its reading options go in. `ParserProcess.start` is the entry point. `ParserProcess.read` returns parsed
rows in the order of the file, and the cells of invalid rows. The caller parses these again to find their errors.
"""

from chalk_flask.roster.package.parser_process.process import (
    ParserProcess,
    ParserProcessError,
    ProcessEndedError,
)

__all__ = ["ParserProcess", "ParserProcessError", "ProcessEndedError"]
