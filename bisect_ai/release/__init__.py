"""What changed? Load and freeze releases, diff them into changes, compose a cell, check across axes."""
