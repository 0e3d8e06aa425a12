"""Questions beside the cause: is it worse, is it fixed, is the canary fit, which queries, what else moved."""
