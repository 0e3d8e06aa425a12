"""`python -m bisect_ai`."""

from bisect_ai.cli import main

main()
