"""JSON Schema: the judge, the keywords with time limits, and how large a schema may be."""
