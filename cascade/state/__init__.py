"""State that processes and machines share besides the journal: budgets and key rates in Valkey or Redis."""
