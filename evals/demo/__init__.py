"""A live demonstration, a traffic generator and the starter recording's sources."""
