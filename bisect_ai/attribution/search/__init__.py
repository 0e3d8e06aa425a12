"""Adaptive searches: which trials to ask for, and what they have shown."""
