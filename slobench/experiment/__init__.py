"""Trials and what is made of them; yields events, never prints."""
