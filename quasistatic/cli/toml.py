"""Reading and writing configuration text: recipes, TOML files, `--set` overrides, and messages about them."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from quasistatic.errors import InputError

MAX_BYTES = 10**6  # a configuration is a page of text; anything larger is another file


def recipes() -> dict[str, str]:
    """Text of every recipe, by name."""
    folder = resources.files("quasistatic.cli") / "recipes"
    found = {path.name.removesuffix(".toml"): path for path in folder.iterdir() if path.name.endswith(".toml")}
    return {name: found[name].read_text(encoding="utf-8") for name in sorted(found)}


def recipe(name: str) -> str:
    """Text of one recipe. Raises: InputError for an unknown name."""
    known = recipes()
    if name not in known:
        hint = nearest(name, known)
        also = f"; did you mean {hint}?" if hint else ""
        raise InputError(f"no recipe is called {name!r}{also} (recipes: {', '.join(known)}; or give a .toml file)")
    return known[name]


def read(recipe_or_toml: str) -> tuple[dict[str, Any], str]:
    """Parsed text of a recipe or of a TOML file, and its name (of the recipe, or the file's stem).

    Raises:
        InputError: no such recipe or file, or the file is not TOML.
    """
    path = Path(recipe_or_toml)
    is_file = path.suffix == ".toml" or len(path.parts) > 1 or path.exists()
    if recipe_or_toml in recipes() or not is_file:
        return tomllib.loads(recipe(recipe_or_toml)), recipe_or_toml
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a .toml file (a run keeps its own as config.toml)")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has {path.stat().st_size} bytes: not a configuration; give a .toml file")
        return tomllib.loads(path.read_text(encoding="utf-8")), path.stem
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give a recipe ({', '.join(recipes())}) or a .toml file") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text (UTF-8); give a .toml file") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {_flat(error)}") from None


def override(raw: dict[str, Any], settings: Iterable[str], keys: dict[str, list[str]]) -> dict[str, Any]:
    """Sections with `section.key=value` settings applied.

    Values are TOML; text may go without quotes, and `none` unsets a key.

    Args:
        raw: sections by name.
        settings: one string per setting.
        keys: known keys of every section.

    Raises:
        InputError: a setting without `=`, or with an unknown key (the nearest known one is named).
    """
    changed = {name: dict(part) if isinstance(part, dict) else part for name, part in raw.items()}
    for setting in settings:
        dotted, equals, text = setting.partition("=")
        dotted, text = dotted.strip(), text.strip()
        if not equals or not dotted or not text:
            raise InputError(f"--set takes section.key=value, got {setting!r}; for example --set optimiser.rate=0.02")
        name, _, key = dotted.partition(".")
        if key not in keys.get(name, ()):
            raise InputError(f"--set {setting}: {unknown(dotted, keys)}")
        part = changed.setdefault(name, {})
        if not isinstance(part, dict):
            raise InputError(f"[{name}] must be a table of keys, got {part!r}")
        if text == "none":
            part.pop(key, None)
        else:
            part[key] = _value(text)
    return changed


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def dump(config: BaseModel) -> str:
    """TOML text of a configuration: flat sections, keys without a value left out."""
    sections = []
    for name, part in config.model_dump().items():
        lines = [f"{key} = {_literal(value)}" for key, value in part.items() if value is not None]
        sections.append("\n".join([f"[{name}]", *lines]))
    return "\n\n".join(sections) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    return repr(value)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to a mistyped one, if any is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def unknown(dotted: str, keys: dict[str, list[str]]) -> str:
    """Message about an unknown `section.key`, naming the nearest known one."""
    name, _, key = dotted.partition(".")
    everything = [f"{section}.{k}" for section, own in keys.items() for k in own]
    same_key = [full for full in everything if full.split(".")[1] == (key or name)]
    hint = (same_key[0] if same_key else None) or nearest(dotted, everything)
    if hint is not None and key and name not in keys and nearest(name, keys) is None and not same_key:
        hint = None  # neither the section nor the key is close to anything
    if hint is not None:
        return f"unknown key {dotted}; did you mean {hint}?"
    if name in keys:
        return f"unknown key {dotted}; [{name}] has {', '.join(keys[name])}"
    return f"unknown key {dotted}; the sections are {', '.join(keys)}"


_TYPES = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "list_type": "a list such as [2, 3]",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def problem(error: ValidationError, raw: dict[str, Any], keys: dict[str, list[str]], source: str) -> str:
    """One line about the first problem that pydantic found."""
    found = error.errors(include_url=False)
    # a mistyped key is the cause of a missing one: it comes first
    first = min(found, key=lambda item: item["type"] != "extra_forbidden")
    location = [str(part) for part in first["loc"]][:2]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{source}: {_describe(first, location, keys)}{more}"


def _describe(item: Any, location: Sequence[str], keys: dict[str, list[str]]) -> str:
    dotted, kind, given, context = ".".join(location), item["type"], item.get("input"), item.get("ctx", {})
    if kind == "extra_forbidden":
        if len(location) > 1:
            return unknown(dotted, keys)
        hint = nearest(dotted, keys)
        also = f"did you mean [{hint}]?" if hint else f"the sections are {', '.join(keys)}"
        return f"unknown section [{dotted}]; {also}"
    if kind == "missing":
        return f"{dotted} is missing; add it" if len(location) > 1 else f"section [{dotted}] is missing; add it"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"[{dotted}] must be a table of keys, got {_shown(given)}"
    if kind == "literal_error":
        expected = str(context.get("expected"))
        hint = nearest(str(given), [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")])
        also = f"; did you mean '{hint}'?" if hint else ""
        return f"{dotted} must be {expected}, got {_shown(given)}{also}"
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"{dotted} must be {words} {context[name]}, got {_shown(given)}"
    if kind == "string_pattern_mismatch":
        wanted = "'module:attr'" if location[-1] == "energy" else "letters, digits, '.', '_' and '-'"
        return f"{dotted} must be {wanted}, got {_shown(given)}"
    if kind == "string_too_short":
        return f"{dotted} must not be empty"
    return f"{dotted} must be {_TYPES.get(kind, item['msg'])}, got {_shown(given)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _flat(error: BaseException) -> str:
    return " ".join(str(error).split())
