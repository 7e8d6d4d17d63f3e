"""The commands of the command line that have no package of their own: their arguments, and what they print."""
