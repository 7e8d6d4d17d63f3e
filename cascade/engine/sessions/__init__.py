"""Conversations: where their turns begin, by what the provider's prompt cache and earlier turns make of each tier."""

from .memory import SessionMemory, first_turns

__all__ = ["SessionMemory", "first_turns"]
