"""Arrival processes, lengths and prompts."""
