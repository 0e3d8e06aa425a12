"""What is a run? What was prepared, its trials and observations, and the loops that ask for them."""
