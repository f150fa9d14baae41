"""The load generator: many processes, one absolute schedule."""
