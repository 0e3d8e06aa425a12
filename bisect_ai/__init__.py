"""Which change in the release of an LLM application lowered its quality?"""
