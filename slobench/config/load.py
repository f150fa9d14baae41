"""Workloads and targets from YAML files, names, URLs and `--set path=value`, each value with its origin."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from slobench.config.class_slo import moved
from slobench.config.document import Document, KeyPath, finder, parse_document, read_document, shown
from slobench.config.experiment import Experiment
from slobench.config.find import Kind, find
from slobench.config.presets import SloPreset, expand
from slobench.config.problems import clip, config_error, dotted, nearest
from slobench.config.slo import parse_slo
from slobench.config.target import CommandTarget, NullTarget, RemoteTarget, SimTarget, Target, VllmTarget
from slobench.config.validity import only_step
from slobench.config.workload import Workload
from slobench.errors import ConfigError

AnyTarget = SimTarget | NullTarget | RemoteTarget | VllmTarget | CommandTarget
T_co = TypeVar("T_co", bound=BaseModel, covariant=True)

OF_A_RUN: tuple[Kind, ...] = ("workload", "target")
SCHEMAS: Mapping[Kind, Any] = {"workload": Workload, "target": Target, "slo": SloPreset, "experiment": Experiment}
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_HOST_PORT = re.compile(r"[A-Za-z0-9.-]+:[0-9]+(/.*)?")
_PART = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s."\\=]+)')


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T_co]):
    """A configuration value and where its parts came from.

    `origin`: dotted key of each leaf -> "workloads/chat.yaml:7", "--set", "--rate", "default".
    `path` is None where no file was read; `notes` are to be shown to the user.
    """

    value: T_co
    origin: Mapping[str, str]
    path: Path | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Given:
    """Values before they are checked, and where each key path was given."""

    data: Any
    places: dict[KeyPath, str] = field(default_factory=dict)


def load_workload(name_or_path: str, sets: Sequence[str] = ()) -> Loaded[Workload]:
    """Read a workload by name or file, with `--set` applied; its SLO clauses are read once to check them."""
    path = find("workload", name_or_path)
    return check_workload(apply_sets(given_by(read_document(path), shown(path)), sets), shown(path), path)


def load_target(name_path_or_url: str, sets: Sequence[str] = ()) -> Loaded[AnyTarget]:
    """Read a target by name or file, or make a remote one of a URL, with `--set` applied."""
    if _URL.match(name_path_or_url):
        data = {"kind": "remote", "url": name_path_or_url}
        return check_target(apply_sets(Given(data, dict.fromkeys(_paths(data), "--target")), sets), "--target", None)
    if _HOST_PORT.fullmatch(name_path_or_url):
        raise ConfigError(f"no target named {clip(name_path_or_url)}\n  nearest   http://{name_path_or_url}")
    path = find("target", name_path_or_url)
    return check_target(apply_sets(given_by(read_document(path), shown(path)), sets), shown(path), path)


def load_experiment(name_or_path: str, sets: Sequence[str] = ()) -> Loaded[Experiment]:
    """Read an experiment by name or file, with `--set` applied."""
    path = find("experiment", name_or_path)
    given = apply_sets(given_by(read_document(path), shown(path)), sets)
    value: Experiment = _validated("experiment", given, shown(path), path)
    return Loaded(value, origins(value, given), path)


def given_by(document: Document, source: str) -> Given:
    """Turn a document's lines into places to tell."""
    return Given(document.value, document.places(source))


def given_again(loaded: Loaded[Any]) -> Given:
    """Turn a loaded value back into given ones, each with its place, to put others over them."""
    data = as_given(loaded.value)
    places = {path: loaded.origin[dotted(path)] for path in leaves(data)}
    return Given(data, {path: place for path, place in places.items() if place != "default"})


def as_given(value: BaseModel) -> Any:
    """Turn a value into what a file would hold of it: durations as text, sequences as tuples."""
    return _tuples(value.model_dump(mode="json"))


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def check_workload(given: Given, source: str, path: Path | None = None) -> Loaded[Workload]:
    """Check given values as a workload, SLO presets replaced; faults of SLO clauses are told with their line too."""
    given = _with_class_clauses(_with_full_names(given), source)
    value = _validated("workload", given, source, path)
    if not isinstance(value, Workload):
        raise TypeError(f"expected a workload, got {type(value)}")
    where = finder(given.places, source)
    names = tuple(value.classes)
    try:
        found = expand(value.slo)
        parse_slo(found.clauses, names)
    except ConfigError:
        for at in range(len(value.slo)):
            for clauses in (value.slo[at : at + 1], value.slo[: at + 1]):  # by itself, then beside those before it
                try:
                    parse_slo(expand(clauses).clauses, names)
                except ConfigError as error:
                    raise ConfigError(f"{where(('slo', at))}: {error}") from None
        raise
    if found.presets:
        names = (*value.slo_presets, *(each for each in found.presets if each not in value.slo_presets))
        value = value.model_copy(update={"slo": found.clauses, "slo_presets": names})
        given = Given(given.data, {**given.places, ("slo_presets",): where(("slo",))})
    return Loaded(value, origins(value, given), path)


def _with_class_clauses(given: Given, source: str) -> Given:
    """Return the same with the classes' SLO clauses among the workload's, each with the place where it stood."""
    data, stood = moved(given.data)
    if not stood:
        return given
    where = finder(given.places, source)
    for place in stood.values():
        clause = given.data["classes"][place[1]]["slo"][place[3]]
        if re.search(r"class\s*=", clause):
            raise ConfigError(
                f"{where(place)}: an SLO clause of class {place[1]} names a class itself: {clip(clause)}\n"
                "  expected  no `class=` there, or the clause in the workload's `slo`"
            )
    left = {place[:3] for place in stood.values()}
    places = {path: at for path, at in given.places.items() if path[:3] not in left}
    places |= {path: where(place) for path, place in stood.items()}
    return Given(data, {("slo",): where(next(iter(stood.values()))), **places})


def _with_full_names(given: Given) -> Given:
    """Return the same with `validity.v01` and the like spelled out: both values and places."""
    limits = given.data.get("validity") if isinstance(given.data, Mapping) else None
    full = {code: name for code in limits if (name := only_step(str(code)))} if isinstance(limits, Mapping) else {}
    if not full or limits is None:
        return given
    named: dict[str, Any] = {key: value for key, value in limits.items() if key not in full}
    for code, name in full.items():
        own, short = named.get(name), limits[code]
        both = isinstance(own, Mapping) and isinstance(short, Mapping)
        named[name] = {**own, **short} if both else short  # type: ignore[dict-item]
    places = {
        ("validity", full.get(str(path[1]), path[1]), *path[2:]) if path[:1] == ("validity",) and path[1:] else path: at
        for path, at in given.places.items()
    }
    return Given({**given.data, "validity": named}, places)


def check_target(given: Given, source: str, path: Path | None) -> Loaded[AnyTarget]:
    """Check given values as a target."""
    value: AnyTarget = _validated("target", given, source, path)
    return Loaded(value, origins(value, given), path)


@cache
def adapter(kind: Kind) -> TypeAdapter[Any]:
    """Return the validator of a kind of file."""
    return TypeAdapter(SCHEMAS[kind])


def _validated(kind: Kind, given: Given, source: str, path: Path | None) -> Any:
    if not isinstance(given.data, Mapping):
        found = "empty" if given.data is None else f"only {clip(given.data)}"
        raise ConfigError(
            f"{source}: is {found}, not a {kind}\n  expected  `key: value` lines; see `slobench config schema`"
        )
    try:
        # Strict: the loose mode takes true for 1 and "5" for 5.
        context = {"folder": None if path is None else path.parent}
        return adapter(kind).validate_python(given.data, strict=True, context=context)
    except ValidationError as error:
        raise config_error(error, data=given.data, schema=SCHEMAS[kind], where=finder(given.places, source)) from None


def apply_sets(given: Given, sets: Sequence[str]) -> Given:
    """Apply `a.b=value` assignments in order; a value is YAML, a missing mapping on the way is made."""
    for text in sets:
        path, value = parse_set(text)
        given = put(given, path, value, f"--set {dotted(path)}")
    return given


def parse_set(text: str) -> tuple[KeyPath, Any]:
    """Read `a.b=value`: the path (parts in double quotes may hold dots), and the value as YAML."""
    parts: list[str] = []
    position = 0
    while match := _PART.match(text, position):
        parts.append(match[2] if match[1] is None else re.sub(r"\\(.)", r"\1", match[1]))
        position = match.end()
        if not text.startswith(".", position):
            break
        position += 1
    if not parts or not text.startswith("=", position):
        raise ConfigError(
            f"cannot read --set {clip(text)}\n"
            "  expected  PATH=VALUE, e.g. --set classes.chat.arrivals.rate=8 or --set talk.timeouts.total=60s"
        )
    return tuple(parts), parse_document(text[position + 1 :], f"--set {dotted(tuple(parts))}").value


def put(given: Given, path: KeyPath, value: Any, place: str) -> Given:
    """Return the given values with one of them replaced, and its place; ConfigError where the path leads nowhere."""
    data = _put(given.data, path, value, place)
    places = {known: at for known, at in given.places.items() if known[: len(path)] != path}
    places |= {path[:depth]: given.places.get(path[:depth], place) for depth in range(1, len(path))}
    places |= {(*path, *below): place for below in _paths(value)}
    return Given(data, places)


def _put(data: Any, path: KeyPath, value: Any, place: str) -> Any:
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(data, tuple):
        if not str(head).isdecimal() or int(head) >= len(data):
            raise ConfigError(
                f"{place}: a list of {len(data)} has no item {clip(head)}\n  expected  0 to {len(data) - 1}"
            )
        position = int(head)
        return (*data[:position], _put(data[position], rest, value, place), *data[position + 1 :])
    if data is not None and not isinstance(data, Mapping):
        raise ConfigError(
            f"{place}: {clip(data)} holds no key {clip(head)}\n  expected  a path to a value, as in the file"
        )
    return {**(data or {}), str(head): _put((data or {}).get(head), rest, value, place)}


def _paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    yield path
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _paths(item, (*path, key))
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _paths(item, (*path, position))


def origins(value: BaseModel, given: Given) -> dict[str, str]:
    """Return the origin of each leaf: its own place, else "default"."""
    return {dotted(path): given.places.get(path, "default") for path in leaves(value.model_dump(mode="json"))}


def leaves(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the paths of all values that are no mappings with keys in them; a list is one value."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path


def route_sets(sets: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the `--set` of a command that has both into the workload's and the target's.

    By a prefix `workload.` or `target.`, else by which of the two knows the first key.
    """
    known = {kind: _top_keys(kind) for kind in OF_A_RUN}
    routed: dict[Kind, list[str]] = {"workload": [], "target": []}
    for text in sets:
        path, _ = parse_set(text)
        head = str(path[0])
        if head in routed and len(path) > 1:
            kinds: list[Kind] = ["workload" if head == "workload" else "target"]
            text_for_kind = text.split(".", 1)[1]
        else:
            kinds = [kind for kind in OF_A_RUN if head in known[kind]]
            text_for_kind = text
        if len(kinds) != 1:
            guess = nearest(head, set().union(*known.values()))
            owner = "both workload and target have" if kinds else "neither workload nor target has"
            raise ConfigError(
                f"--set {dotted(path)}: {owner} a key {clip(head)}\n"
                f"  expected  workload.KEY or target.KEY" + (f"\n  nearest   {guess}" if guess and not kinds else "")
            )
        routed[kinds[0]].append(text_for_kind)
    return tuple(routed["workload"]), tuple(routed["target"])


def _top_keys(kind: Kind) -> set[str]:
    targets: list[type[BaseModel]] = [SimTarget, NullTarget, RemoteTarget, VllmTarget, CommandTarget]
    models = [Workload] if kind == "workload" else targets
    return {key for model in models for key in model.model_fields}


def public(value: BaseModel) -> dict[str, Any]:
    """Return a value as plain data that may be stored: durations as text, values of secret kind hidden."""
    data = value.model_dump(mode="json")
    talk = data.get("talk", {})
    for part in (talk, *data.get("classes", {}).values()):
        if "headers" in part:
            part["headers"] = dict.fromkeys(part["headers"], "(hidden)")
    for name in data.get("environ", {}):
        if re.search("TOKEN|KEY|SECRET|PASSWORD|CREDENTIAL", name, re.IGNORECASE):
            data["environ"][name] = "(hidden)"
    return data
