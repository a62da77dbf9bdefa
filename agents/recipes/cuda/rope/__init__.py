"""Templates, table and notes of the family."""
