"""Other tools' logs as recordings, a module for each tool: what was asked and answered there need not be paid for again."""
