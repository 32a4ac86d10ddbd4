"""Loading of settings. Precedence: defaults < profile < environment < options < --set. One error lists all problems."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from m3gal_cli.config.deprecated import IGNORED_IN_FILES, Translator
from m3gal_cli.config.options import OPTION_OF
from m3gal_cli.config.paths import expand_run_path
from m3gal_cli.config.schema import Config
from m3gal_cli.errors import InputError

ENVIRONMENT_PREFIX = "M3GAL_"
BASE_KEY = "extends"
NULLS = ("", "~", "null", "Null", "NULL")
COMMAND_LINE = "command line"


def profiles_folder() -> Path:
    """Return the folder of the packaged profiles: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def profile_names() -> list[str]:
    """Return the names of the packaged profiles."""
    return sorted(p.name for p in profiles_folder().glob("*.yaml"))


def profile_summary(name: str) -> str:
    """Return the first sentence of the comment that heads a packaged profile."""
    lines = (profiles_folder() / name).read_text(encoding="utf-8").splitlines()
    head = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    return head.partition(". ")[0].rstrip(".") + "."


def find_profile(name: str) -> Path:
    """Return the file of this name, else the packaged profile (with or without .yaml).

    Raises:
        InputError: no such file; the hint has the closest name.
    """
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
    """Return the settings from all sources; later sources override earlier ones.

    Args:
        profile: File or packaged profile. Its key ``extends`` names the profile that it is based on.
        overrides: Values of command line options by dotted name; None means that the option was not given.
        sets: ``dotted.name=value`` texts of --set, with values in YAML. They override options.
        environ: The environment; ``M3GAL_OPTIM__LR=0.1`` sets optim.lr. Default: that of the process.

    Raises:
        InputError: One line for each unknown key (with the closest known one) and for each wrong value.
    """
    settings = _Settings()
    if profile is not None:
        settings.add_tree(_read_profile(find_profile(profile)), profile)
    for name, text in (os.environ if environ is None else environ).items():
        if (name.startswith(ENVIRONMENT_PREFIX) and "__" in name) or name in ("M3GAL_SEED", "M3GAL_DEVICE"):
            dotted = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            settings.add_text(dotted, text, f"environment {name}")
    for dotted, value in (overrides or {}).items():
        if value is not None:
            settings.add(dotted, value, COMMAND_LINE)
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            hint = "Write --set section.key=value, e.g. --set optim.lr=0.1."
            raise InputError(f"--set {text!r} has no '='", hint=hint)
        settings.add_text(name.strip(), value, f"--set {name.strip()}")
    return settings.validate()


def config_from_file(path: Path) -> Config:
    """Return the settings that a run wrote to its config.yaml."""
    settings = _Settings()
    settings.add_tree(_read_yaml(path), str(path))
    return settings.validate()


def dump_config(config: Config) -> str:
    """Return the settings as YAML, in the order of the schema."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> dict[str, Any]:
    """Return the pydantic field of every setting by dotted name."""
    keys: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys |= known_keys(info.annotation, f"{prefix}{name}.")
        else:
            keys[prefix + name] = info
    return keys


class _Settings:
    """Values from several sources, under current names, with the source of each value."""

    def __init__(self) -> None:
        self._tree: dict[str, Any] = {}
        self._source: dict[str, str] = {}
        self._translator = Translator()
        self._known = known_keys()
        self._sections = {key.rpartition(".")[0] for key in self._known} - {""}

    def add(self, name: str, value: Any, source: str) -> None:
        """Set one setting. Its section becomes a mapping if it was a single value (normalizer: fit)."""
        dotted = self._translator.name(name)
        if dotted is None:
            self._translator.removed(name, value)
            return
        *sections, key = dotted.split(".")
        tree = self._tree
        for section in sections:
            if not isinstance(tree.get(section), dict):
                tree[section] = {}
            tree = tree[section]
        tree[key] = self._translator.value(dotted, value)
        self._source[dotted] = source

    def add_text(self, name: str, text: str, source: str) -> None:
        """Set one setting from a text of the environment or of --set."""
        self.add(name, self._parse(self._translator.name(name) or name, text), source)

    def add_tree(self, tree: Mapping[str, Any], source: str) -> None:
        """Set all settings of a YAML file; a section without keys changes nothing."""
        for dotted, value in _flatten(tree).items():
            empty_section = dotted in self._sections and not value and isinstance(value, dict | None)
            if not empty_section:
                self.add(dotted, value, source)

    def validate(self) -> Config:
        """Return the validated settings; warn once about the names of earlier versions. Raises InputError."""
        self._translator.warn()
        try:
            return Config.model_validate(self._tree)
        except ValidationError as error:
            lines = dict.fromkeys(self._explain(problem) for problem in error.errors())
            hint = "Correct the values. m3gal config show prints all settings."
            raise InputError("\n".join(lines), hint=hint) from error

    def _parse(self, dotted: str, text: str) -> Any:
        """Parse a value as YAML. Unquoted values of text settings are kept literally: ``007``, ``a #1``."""
        info = self._known.get(dotted)
        wanted = None if info is None else info.annotation
        text, is_text = text.lstrip(), wanted in (str, str | None)
        if is_text and text[:1] not in ("'", '"'):
            return None if text.strip() in NULLS and NoneType in get_args(wanted) else text
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            return text
        return text if is_text and not isinstance(value, str) else value

    def _explain(self, problem: Mapping[str, Any]) -> str:
        """Return one line for a problem: the option or setting, what is wrong, its value and its source."""
        branches = {"str", "NormalizerConfig", "literal['fit']"}  # pydantic's names for the members of a union
        parts = [str(p) for p in problem["loc"] if str(p) not in branches]
        dotted = ".".join(parts)
        source = next((s for k, s in self._source.items() if k == dotted or k.startswith(f"{dotted}.")), None)
        name, at = dotted, f" ({source})" if source else ""
        if source == COMMAND_LINE:
            name, at = OPTION_OF.get(dotted, dotted), ""
        if problem["type"] == "string_pattern_mismatch" and dotted == "device":
            return f"{name}: expected auto, cpu, cuda, cuda:N or mps, got {problem['input']!r}{at}"
        if problem["type"] == "extra_forbidden":
            return f"unknown key {dotted!r}{at}.{_closest(dotted, [*self._known, *sorted(self._sections)])}"
        if not parts:
            return f"{problem['msg'].removeprefix('Value error, ')}{at}"
        return f"{name}: {problem['msg'][:1].lower()}{problem['msg'][1:]}, got {problem['input']!r}{at}"


def _read_profile(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the settings of a profile, flat, on top of those of the profile that it extends."""
    if path.resolve() in seen:
        raise InputError(f"{BASE_KEY} forms a cycle", where=path, hint=f"Remove {BASE_KEY} from one of the profiles.")
    tree = _read_yaml(path)
    base = tree.pop(BASE_KEY, None)
    if base is None:
        return _flatten(tree)
    if not isinstance(base, str):
        what = f"{BASE_KEY} must name one profile, got {base!r}"
        raise InputError(what, where=path, hint=f"Packaged profiles: {', '.join(profile_names())}.")
    beside, own = path.parent / base, _flatten(tree)
    inherited = _read_profile(beside if beside.is_file() else find_profile(base), (*seen, path.resolve()))
    # Own settings come last: normalizer: fit replaces the four numbers of the base, and the other way round.
    return {name: value for name, value in inherited.items() if name not in own} | own


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"not YAML: {getattr(error, 'problem', error)}", where=where, hint="Correct it.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read ({error})", where=path, hint="Check the path.") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        what = f"expected sections with keys, got {type(tree).__name__}"
        raise InputError(what, where=path, hint="Write e.g. optim: {lr: 0.1}.")
    for dotted in IGNORED_IN_FILES:
        section, _, key = dotted.partition(".")
        if isinstance(tree.get(section), dict):
            tree[section].pop(key, None)
    if isinstance(data := tree.get("data"), dict):
        tree["data"] = {k: expand_run_path(v, path.parent) if isinstance(v, str) else v for k, v in data.items()}
    return tree


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _closest(name: str, names: Iterable[str]) -> str:
    names = list(names)
    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if not matches:  # a bare key without its section
        matches = [n for n in names if n.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    return f" Did you mean {matches[0]}?" if matches else ""
