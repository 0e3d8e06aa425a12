"""What is a run? Questions put to results, from what a user names to a report."""
