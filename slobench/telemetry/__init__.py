"""Samples of servers, GPUs and the host, taken beside the load."""
