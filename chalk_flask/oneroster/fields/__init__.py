"""Field types of the Schemas: marshmallow fields that also know CSV cells, filter paths and comparison keys.

`base` has the base class `OneRosterField`, `scalars` the types of one value, `composites` lists, references, metadata.
"""
