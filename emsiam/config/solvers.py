"""Which function solves for η, and with which parameters? One of the package by name, or one of a user's file."""

import dataclasses
import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

from ..errors import flag, nearest, place, refuse
from ..eta import SOLVERS
from ..methods import METHODS
from ..traits import hyperparameters, name_of
from .options import Config


def load_solver(eta: str) -> Callable:
    """A solver by name, or FUNCTION of FILE.py, which is run. Raises ConfigError where there is none."""
    if eta in SOLVERS:
        return SOLVERS[eta]
    file, _, name = eta.rpartition(":")
    if not Path(file).is_file():
        refuse("eta", eta, f"there is no file {file}")
    scope = vars(_module(Path(file).resolve(), Path(file).stat().st_mtime_ns, eta))
    if name in scope and not callable(scope[name]):
        refuse("eta", eta, f"{name} of {file} is a {type(scope[name]).__name__}; allowed is a function")
    if not callable(scope.get(name)):
        functions = [n for n, v in scope.items() if callable(v) and not n.startswith("_")]
        refuse("eta", eta, f"{file} has no function {name}{nearest(name, functions)}")
    return scope[name]


@functools.lru_cache
def _module(file: Path, changed: int, eta: str) -> ModuleType:
    """A user's file, run once as a module; its neighbours can be imported."""
    sys.path.insert(0, str(file.parent))
    try:
        name = f"{__name__}.{file.stem}"  # not to be taken for another module
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        refuse("eta", eta, f"{file} does not run ({place(error)})")
    finally:
        sys.path.remove(str(file.parent))


def with_arguments(config: Config, solver: Callable | None = None) -> Config:
    """A configuration with the types of `eta_args` made right, before data are read. Raises ConfigError.

    solver: in place of the configuration's.
    """
    if not config.eta_args:
        return config
    solve = solver or (load_solver(config.eta) if config.eta else METHODS[config.mode].solve)
    return dataclasses.replace(config, eta_args=typed(solve, config.eta_args))


def typed(solve: Callable, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Parameters of a solver with the types of their defaults, None where there are none.

    Raises ConfigError for one that it does not have, that is an option of its own, or of another type.
    """
    options = {f.name for f in dataclasses.fields(Config)}
    own = {n: p for n, p in inspect.signature(solve).parameters.items() if n in hyperparameters(solve)}
    values = {}
    for name, text in (given or {}).items():
        if name in options:
            hint = f"give {flag(name)} {text}" if name in own else "a solver's parameter needs another name"
            refuse("eta_args", f"{name}={text}", f"{name} is an option; {hint}")
        if name not in own:
            may = [n for n in own if n not in options]
            has = f"{name_of(solve)} has {', '.join(may) or 'no parameters'} (keyword-only, after a *)"
            refuse("eta_args", f"{name}={text}", f"{has}{nearest(name, may)}")
        try:
            values[name] = _typed(own[name], text)
        except (ValueError, KeyError, TypeError):
            refuse("eta_args", f"{name}={text}", f"allowed is {_allowed(own[name])}")
    return values or None


def _choices(parameter: inspect.Parameter) -> tuple[Any, ...]:
    """The values of a Literal; nothing of another annotation."""
    return get_args(parameter.annotation) if get_origin(parameter.annotation) is Literal else ()


def _typed(parameter: inspect.Parameter, text: Any) -> Any:
    if choices := _choices(parameter):
        return {str(choice): choice for choice in choices}[str(text)]
    kind = type(parameter.default)
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}[str(text).lower()]
    if kind not in (int, float, str) or isinstance(text, bool):
        raise TypeError
    if kind is int and not isinstance(text, str) and int(text) != text:
        raise ValueError
    number = kind(text)
    if number != number:
        raise ValueError
    return number


def _allowed(parameter: inspect.Parameter) -> str:
    if choices := _choices(parameter):
        return ", ".join(map(str, choices))
    if parameter.default is parameter.empty:
        return "nothing: it needs a default, whose type is taken"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return words.get(type(parameter.default), "nothing: its default has no plain type")
