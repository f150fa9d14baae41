"""Recorded traffic: one module for each format that it comes in, one schema behind all."""
