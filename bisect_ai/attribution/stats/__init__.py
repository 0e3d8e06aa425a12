"""Statistics, each method once: group-sequential tests, paired tables, quantiles."""
