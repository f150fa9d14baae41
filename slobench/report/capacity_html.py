"""A capacity as one page: no script, nothing fetched, every foreign text escaped."""

from __future__ import annotations

from importlib import resources

import jinja2
import yaml
from markupsafe import Markup

from slobench.config.load import public
from slobench.experiment.capacity import asked_json
from slobench.report import capacity_charts, words
from slobench.report import capacity_text as text
from slobench.report.capacity import CapacityView
from slobench.report.capacity_tables import tables


def render(view: CapacityView) -> str:
    """Return capacity.html."""
    folder = resources.files(__package__) / "templates"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    word, meaning, tone = text.verdict(view)
    asked = asked_json(view.ask)
    details = {"Workload": public(view.ask.trial.workload), "Target": asked["target"], "Search": asked["settings"]}
    return environment.from_string((folder / "capacity.html.j2").read_text("utf-8")).render(
        style=Markup((folder / "report.css").read_text("utf-8")),  # noqa: S704 (ours, not a server's)
        heading=text.heading(view),
        headline=text.headline(view),
        word=word,
        meaning=words.clean(meaning, 1000),
        state={"good": "good", "warn": "warned", "bad": "invalid"}[tone],
        tiles=tuple(_tiles(view)),
        facts=tuple(text.facts(view)),
        figures=capacity_charts.figures(view),
        tables=tables(view),
        statement=words.clean(text.result_line(view), 2000),
        meanings=text.MEANINGS,
        details={title: yaml.safe_dump(value, sort_keys=False, allow_unicode=True) for title, value in details.items()},
        svg=Markup,
    )


def _tiles(view: CapacityView) -> list[tuple[str, str, str]]:
    found = view.found
    made = [(text.name(view), text.load(view, found.rate), f"{text.unit(view)}, 95 % {text.interval(view)}")]
    if found.certified is not None:
        made.append(("certified", text.load(view, found.certified), text.target(view)))
    if view.gpus is not None and found.rate is not None:
        made.append(("per GPU", text.load(view, found.rate / view.gpus), f"{text.unit(view)}, {view.gpus} GPUs"))
    if found.binding is not None and found.binding in found.limits:
        made.append(
            ("binding limit", words.clean(found.binding, 40), f"met by {words.percent(found.limits[found.binding])}")
        )
    if found.n_eff is not None:
        made.append(("n_eff", words.count(found.n_eff), f"of n {found.n:,}, D {found.design_effect:,.0f}"))
    return made
