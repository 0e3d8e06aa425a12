"""Classical designs over the combinations of two releases, and the verdict of their table of scores."""
