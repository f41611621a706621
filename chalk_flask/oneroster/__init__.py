"""The OneRoster 1.1 standard, without HTTP and storage engines.

Values of JSON bodies, CSV cells and filter texts go in; records and conditions for storage come out. The entry point is
`schemas.RESOURCES`: the resource type of every collection.
"""
