"""The simulated continuous-batching engine: ground truth, and the default target."""
