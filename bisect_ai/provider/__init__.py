"""How is a model called and paid? Completion, retry, rate limit, transport, prices, budget, redaction. Imports nothing above it."""
