"""Other tools' logs as recordings, a module for each tool: answers that exist there are not paid for again."""
