"""One run: call the tier's model, judge its answer, decide, escalate."""
