"""What was asked? Read logs through DuckDB, map columns, sample."""
