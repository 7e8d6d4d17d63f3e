"""What a run costs: prices, estimates before a call, budgets, and what premium alone would have cost."""
