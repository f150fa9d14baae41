"""Azure LLM inference traces: CSV of 2023 and 2024, and with images of 2025.

Columns TIMESTAMP, ContextTokens, GeneratedTokens, and NumImages in the multimodal one
[github.com/Azure/AzurePublicDataset; Patel et al. 2024, ISCA; Stojkovic et al. 2025, HPCA].
"""

from __future__ import annotations

from pathlib import Path

from slobench.workload.traces.schema import Trace, make_trace
from slobench.workload.traces.table import read_table

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read(path: Path) -> Trace:
    """Read an Azure trace; times are wall-clock ones in steps of 100 ns."""
    table = read_table(path, COLUMNS, optional=("NumImages",))
    columns = {
        "arrival_ns": table.times_ns("TIMESTAMP"),
        "input_tokens": table.whole_numbers("ContextTokens"),
        "output_tokens": table.whole_numbers("GeneratedTokens"),
    }
    if "NumImages" in table.columns:
        columns["images"] = table.whole_numbers("NumImages", empty=True)
    return make_trace(columns, format="azure")
