"""`--export`: which forms there are, what their files are called, and writing them whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import yaml

from slobench.errors import UsageError
from slobench.records.whole import write_text_whole
from slobench.report.exports import csv_tables, llmd, openmetrics, vllm
from slobench.report.view import RunView

FORMS = {
    "vllm": "serving-vllm.json",
    "llmd": "benchmark-report-v0.2.yaml",
    "csv": "summary.csv",
    "csv-requests": "requests.csv",
    "openmetrics": "metrics.om.txt",
}
"""Form -> name of its file in the run's folder; vLLM's CI knows a serving result by "serving" in its name."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Exports that were asked for: forms, each once, and the one file to write instead of those in the folder."""

    forms: tuple[str, ...] = ()
    out: Path | None = None

    @property
    def printed(self) -> bool:
        """Whether the export goes to standard output, and nothing else may."""
        return self.out is not None and str(self.out) == "-"


def wanted(forms: Sequence[str], out: Path | None = None) -> Wanted:
    """Check what was asked for, before a run or a report is made for it. UsageError where it cannot be."""
    for form in forms:
        if form not in FORMS:
            raise UsageError(f"--export {form!r}\n  expected  {', '.join(FORMS)}")
    found = tuple(dict.fromkeys(forms))
    if out is not None and len(found) != 1:
        raise UsageError(f"--out with {len(found)} exports\n  expected  one --export, e.g. --export csv --out {out}")
    return Wanted(found, out)


def export(view: RunView, of: Wanted) -> tuple[Path, ...]:
    """Write each form, and return the files. RecordsError where the disk refuses."""
    written: list[Path] = []
    for form in of.forms:
        path = of.out or view.folder / FORMS[form]
        for name, text in texts(view, form, path).items():
            write_text_whole(name, text)
            written.append(name)
    return tuple(written)


def printable(view: RunView, of: Wanted) -> str:
    """Return the one form as text for standard output, without files beside it."""
    (form,) = of.forms
    return next(iter(texts(view, form, Path(FORMS[form])).values()))


def texts(view: RunView, form: str, path: Path) -> Mapping[Path, str]:
    """Return the files of one form at `path`; llm-d's is JSON where that ends in .json."""
    match form:
        case "vllm":
            commands = orjson.dumps(vllm.commands(view), option=orjson.OPT_INDENT_2).decode() + "\n"
            return {path: orjson.dumps(vllm.document(view)).decode() + "\n", path.with_suffix(".commands"): commands}
        case "llmd":
            report = llmd.document(view)
            if path.suffix == ".json":
                return {path: orjson.dumps(report, option=orjson.OPT_INDENT_2).decode() + "\n"}
            return {path: yaml.safe_dump(report, sort_keys=False, allow_unicode=True)}
        case "csv":
            return {path: csv_tables.summary_csv(view)}
        case "csv-requests":
            return {path: csv_tables.requests_csv(view)}
        case _:
            return {path: openmetrics.text(view)}
