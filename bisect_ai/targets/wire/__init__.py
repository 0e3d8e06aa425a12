"""The user's program unchanged, its provider's base URL pointing at a local proxy that composes the cell in each request."""
