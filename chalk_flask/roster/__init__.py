"""Rosters: everything that reads or writes the records of a tenant as a whole.

`imports` takes a CSV package and changes the stored roster: it reads the package with `package`, compares it with
`diff`, and writes with `changes`. `gradebook` stores the records of grade tools, `export` writes a package, and
`integrity` checks a store.
"""
