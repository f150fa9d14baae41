"""Arrays in, arrays out: latency, SLO attainment, validity."""
