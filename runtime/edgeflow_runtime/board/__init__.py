"""What a board is, read from files under a root, what it lacks, and what mends that."""
