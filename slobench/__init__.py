"""slobench: load generator and SLO benchmarking harness for LLM inference servers."""

__version__ = "0.1.0"
