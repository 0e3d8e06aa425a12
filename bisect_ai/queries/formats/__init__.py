"""Formats of other tools' logs: one module each, with the table from our fields to theirs."""
