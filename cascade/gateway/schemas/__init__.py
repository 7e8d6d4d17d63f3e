"""Clients' JSON Schemas: bounds on their size, and processes that compile them."""
