"""Chooses the candidate to use and certifies it: a promise, tested on rows that did not help to choose."""
