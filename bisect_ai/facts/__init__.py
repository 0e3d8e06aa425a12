"""What came out? From outcomes to the report: segments, side metrics, missing answers, changes, provider."""
