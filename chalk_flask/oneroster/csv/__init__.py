"""CSV binding of OneRoster 1.1: cells of a data file and properties of `manifest.csv`.

`RowParser` takes the cells of one row and returns a `ParsedRow`, the record ready to be stored. The module `manifest`
checks and writes the properties of the manifest.
"""

from chalk_flask.oneroster.csv.row_parser import ParsedRow, RowParser

__all__ = ["ParsedRow", "RowParser"]
