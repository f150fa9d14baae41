"""Workloads, targets and SLOs as the user writes them."""
