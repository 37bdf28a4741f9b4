"""How is an option described? In words for --help and for the docs, from what the options and methods say."""

import dataclasses
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from .. import names
from .declared import ROLES
from .options import Config
from .presets import DEFAULTS


def unset(name: str) -> str:
    """What stands in an option's place where it is not given, in words."""
    f = next(f for f in dataclasses.fields(Config) if f.name == name)
    text, rows = f.metadata["unset"], names.METHODS
    if f.default is not None:
        return written(f.default)
    if name in DEFAULTS:
        default = by_mode({of: row["defaults"].get(name, DEFAULTS[name]) for of, row in names.DATASETS.items()})
    elif name in next(iter(rows.values())):  # said by every method
        default = by_mode({mode: row[name] for mode, row in rows.items()})
    else:  # a hyper-parameter of some
        reads = {mode: row["reads"] for mode, row in rows.items()} | dict(names.SOLVERS)
        default = by_mode({who: values[name] for who, values in reads.items() if name in values})
    return default if text is None else text.format(default)


def by_mode(values: Mapping[str, Any]) -> str:
    """{mode, solver or data set: value} in words: what most have comes last."""
    modes: dict[str, list[str]] = {}
    for mode, value in values.items():
        modes.setdefault(written(value), []).append(mode)
    *few, most = sorted(modes, key=lambda value: len(modes[value])) or [""]
    return ", ".join([*(f"{value} for {', '.join(modes[value])}" for value in few), f"else {most}" if few else most])


def written(value: Any) -> str:
    """A default as a reader should see it."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def readers(name: str) -> str:
    """Who reads an option that some read: methods, solvers, data sets; nothing of other options."""
    tables = {"": names.METHODS, "--eta ": names.SOLVERS, "--dataset ": names.DATASETS}
    found = {flag: [of for of, row in table.items() if name in row.get("reads", row)] for flag, table in tables.items()}
    return "; ".join(flag + ", ".join(of) for flag, of in found.items() if of)


def described(f: dataclasses.Field, quote: Callable[[str], str] = str) -> str:
    """An option's meaning, and the names that it may have."""
    listed = [quote(name) for name in f.metadata["names"]]
    read_by = f"; read by {who}" if (who := readers(f.name)) else ""
    return f.metadata["help"] + (f"; {', '.join(listed)}" if listed else "") + read_by


def sentence(f: dataclasses.Field) -> str:
    """An option's meaning, the names that it may have, and its default, for --help and `help(emsiam.Config)`."""
    listed, otherwise, who = ", ".join(f.metadata["names"]), unset(f.name), readers(f.name)
    parts = [
        f.metadata["help"],
        f"One of: {listed}" if listed else "",
        f"Read by {who}" if who else "",
        f"Default: {otherwise}" if otherwise else "",
    ]
    return ". ".join(part for part in parts if part).replace("`", "") + "."


def documented() -> str:
    """All options in groups, as `help(emsiam.Config)` shows them."""
    lines = [(Config.__doc__ or "").rstrip(), ""]
    for role, title in ROLES.items():
        lines += [f"{title}", ""]
        for f in dataclasses.fields(Config):
            if f.metadata["role"] == role:
                text = textwrap.wrap(sentence(f), 92, break_on_hyphens=False, break_long_words=False)
                lines += [f"    {f.name}", *(f"        {line}" for line in text)]
        lines.append("")
    return "\n".join(lines)
