"""Statistics that know nothing of LLMs, servers or files."""
