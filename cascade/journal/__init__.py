"""One durable record a run: in SQLite, or in Postgres for many processes.

`record` makes it, `writer` keeps it, `journal` joins both to a run, `verify` decides it again, `export` carries it away.
Importing this package loads nothing: the policy file's types need `spec` alone.
"""
