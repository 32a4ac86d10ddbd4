"""Settings from defaults < profile < environment < options and --set, checked once, with every error at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from m3gal_cli.config.schema import Config
from m3gal_cli.errors import InputError

ENVIRONMENT_PREFIX = "M3GAL_"
BASE_KEY = "extends"
NULLS = ("", "~", "null", "Null", "NULL")
Overrides = dict[str, Any]  # dotted name -> value


def profiles_folder() -> Path:
    """Where the packaged profiles lie: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def profile_names() -> list[str]:
    """Names of the packaged profiles."""
    return sorted(p.name for p in profiles_folder().glob("*.yaml"))


def find_profile(name: str) -> Path:
    """A file of this name, else a packaged profile (with or without .yaml). Raises InputError with the closest name."""
    if Path(name).is_file():
        return Path(name)
    packaged = profiles_folder() / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if Path(name).name == name and packaged.is_file():
        return packaged
    hint = f"Packaged profiles: {', '.join(profile_names())}.{_closest(name, profile_names())}"
    raise InputError("no such configuration file or profile", where=name, hint=hint)


def load_config(
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    sets: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Build the settings.

    Args:
        profile: file or packaged profile; its key ``extends`` names another one that it stands on.
        overrides: dotted name -> value, from command line options; None values are passed over.
        sets: ``dotted.name=value`` texts of --set, values read as YAML; they win over options.
        environ: the environment; M3GAL_OPTIM__LR=0.1 sets optim.lr.

    Raises:
        InputError: naming every unknown key (with the closest known one) and every value of a wrong type, at once.
    """
    tree: dict[str, Any] = {}
    origin: dict[str, str] = {}
    if profile is not None:
        _merge(tree, _read_profile(find_profile(profile)), origin, source=profile)
    environment = os.environ if environ is None else environ
    for name, text in environment.items():
        if (name.startswith(ENVIRONMENT_PREFIX) and "__" in name) or name in ("M3GAL_SEED", "M3GAL_DEVICE"):
            dotted = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            _set(tree, dotted, _value(dotted, text), origin, source=f"environment {name}")
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _set(tree, dotted, value, origin, source="command line")
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(
                f"--set {text!r} has no '='", hint="Write --set section.key=value, e.g. --set optim.lr=0.1."
            )
        _set(tree, name.strip(), _value(name.strip(), value), origin, source=f"--set {name.strip()}")
    return _validate(tree, origin)


def config_from_file(path: Path) -> Config:
    """The resolved settings that a run left behind."""
    tree = _read_yaml(path)
    return _validate(tree, dict.fromkeys(_flatten(tree), str(path)))


def dump_config(config: Config) -> str:
    """The settings as YAML, in the schema's order."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> dict[str, Any]:
    """Every dotted key of the schema and its pydantic field."""
    keys: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys |= known_keys(info.annotation, f"{prefix}{name}.")
        else:
            keys[prefix + name] = info
    return keys


def _read_profile(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path.resolve() in seen:
        raise InputError(f"{BASE_KEY} goes in a circle", where=path, hint="Let one of the profiles stand alone.")
    tree = _read_yaml(path)
    base = tree.pop(BASE_KEY, None)
    if base is None:
        return tree
    if not isinstance(base, str):
        what = f"{BASE_KEY} must name one profile, got {base!r}"
        raise InputError(what, where=path, hint=f"Packaged profiles: {', '.join(profile_names())}.")
    beside = path.parent / base
    under = _read_profile(beside if beside.is_file() else find_profile(base), (*seen, path.resolve()))
    _merge(under, tree, {}, "")
    return under


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(
            f"not YAML: {getattr(error, 'problem', error)}", where=where, hint="Repair the line."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read ({error})", where=path, hint="Check the path.") from error
    if tree is None:
        return {}
    if isinstance(tree, dict) and isinstance(tree.get("eval"), dict):
        tree["eval"].pop("batch_size", None)  # runs of before have it; it never changed a result
    if not isinstance(tree, dict):
        what = f"expected sections with keys, got {type(tree).__name__}"
        raise InputError(what, where=path, hint="Write e.g. optim: {lr: 0.1}.")
    return tree


def _merge(tree: dict[str, Any], other: Mapping[str, Any], origin: dict[str, str], source: str) -> None:
    sections = {key.rpartition(".")[0] for key in known_keys()}
    for dotted, value in _flatten(other).items():
        if dotted in sections and not value and isinstance(value, dict | None):
            continue  # a section without keys, or with all of them commented out, says nothing
        _set(tree, dotted, value, origin, source)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _set(tree: dict[str, Any], dotted: str, value: Any, origin: dict[str, str], source: str) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        below = tree.get(section)
        if not isinstance(below, dict):  # e.g. normalizer: fit, replaced by its four numbers
            below = tree[section] = {}
        tree = below
    tree[key] = value
    origin[dotted] = source


def _value(dotted: str, text: str) -> Any:
    """``text`` read as YAML; but where a text is wanted, ``query: ``, ``007`` and ``a #1`` stay, unless in quotes."""
    info = known_keys().get(dotted)
    wanted = None if info is None else info.annotation
    text, is_text = text.lstrip(), wanted in (str, str | None)
    if is_text and text[:1] not in ("'", '"'):
        return None if text.strip() in NULLS and NoneType in get_args(wanted) else text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return text if is_text and not isinstance(value, str) else value


def _validate(tree: dict[str, Any], origin: Mapping[str, str]) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(problem, origin) for problem in error.errors()]
        lines = list(dict.fromkeys(lines))
        raise InputError("\n".join(lines), hint="See the configuration table in the README.") from error


def _explain(problem: Mapping[str, Any], origin: Mapping[str, str]) -> str:
    known = known_keys()
    branches = {"str", "NormalizerConfig", "literal['fit']"}  # pydantic's names for the arms of a union
    parts = [str(p) for p in problem["loc"] if str(p) not in branches]
    dotted = ".".join(parts)
    source = next((s for k, s in origin.items() if k == dotted or k.startswith(f"{dotted}.")), None)
    at = f" ({source})" if source else ""
    if problem["type"] == "extra_forbidden":
        sections = sorted({k.rpartition(".")[0] for k in known} - {""})
        return f"unknown key {dotted!r}{at}.{_closest(dotted, [*known, *sections])}"
    if not parts:
        return f"{problem['msg'].removeprefix('Value error, ')}{at}"
    return f"{dotted}: {problem['msg'][:1].lower()}{problem['msg'][1:]}, got {problem['input']!r}{at}"


def _closest(name: str, names: Iterable[str]) -> str:
    names = list(names)
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if not found:  # a bare key without its section
        found = [n for n in names if n.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    return f" Did you mean {found[0]}?" if found else ""
