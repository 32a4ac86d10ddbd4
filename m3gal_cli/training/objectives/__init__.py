"""Training objectives: momentum contrast and candidate ranking."""
