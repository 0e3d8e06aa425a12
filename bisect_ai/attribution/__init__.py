"""Why? Designs, contrasts, adaptive search, inference, verdict: pure, no I/O, no clock."""
