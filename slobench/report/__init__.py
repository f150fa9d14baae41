"""Records and summaries, rendered."""
