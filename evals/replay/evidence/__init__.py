"""Evidence beside a tier's own judges: what other models of the recording answered."""
