"""Field types of the Schemas: marshmallow fields that also convert CSV cells and return comparison keys.

`base` has the base class `OneRosterField`, `scalars` the types of one value, `composites` lists, references, metadata.
"""
