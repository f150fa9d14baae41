"""Write the reports of a capacity search into its folder."""

from __future__ import annotations

from pathlib import Path

from slobench.errors import RecordsError
from slobench.report import capacity_html, capacity_markdown
from slobench.report.capacity import CapacityView


def write_reports(view: CapacityView) -> None:
    """Write capacity.md and capacity.html. Raises RecordsError where the disk refuses."""
    _write(view.folder / "capacity.md", capacity_markdown.render(view))
    _write(view.folder / "capacity.html", capacity_html.render(view))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordsError(f"cannot write {path}: {error.strerror}\n  expected  a disk with room") from None
