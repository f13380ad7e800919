"""The parser of `main_retrieval.py`, made from the fields of `Config`."""

from __future__ import annotations

import argparse
import functools
import typing
from dataclasses import MISSING, Field
from typing import Any

from tvr.config import Config, flags
from tvr.presets import NAMES, preset
from tvr.utils.arguments import zero_or_one
from tvr.utils.errors import UserError

DESCRIPTION = "Train or evaluate GARE, text-video retrieval with pair-specific increments."


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are the same kind of error as all others."""

    def error(self, message: str) -> typing.NoReturn:
        raise UserError(f"{message}\nSee {self.prog} --help for every flag.")


@functools.cache
def kinds() -> dict[str, Any]:
    """What each field of `Config` holds. They are texts there, to be compiled all or none."""
    return typing.get_type_hints(Config)


def add_flag(parser: argparse._ActionsContainer, f: Field) -> None:
    """Add the flag of a field of `Config`; without it on the command line, its value is MISSING."""
    names = [f"--{f.name}"] + (["--local-rank"] if f.name == "local_rank" else [])
    wanted = kinds()[f.name]
    kind = (typing.get_args(wanted) or (wanted,))[0]
    shown = "" if f.default in (None, False) else f" (default {f.default})"
    options: dict[str, Any] = {"help": (f.metadata["help"] + shown).replace("%", "%%")}
    if kind is bool:
        options |= {"type": zero_or_one, "nargs": "?", "const": True, "metavar": "0|1"}
    else:
        options |= {"type": kind, "metavar": kind.__name__.upper()}
    if f.metadata["choices"]:
        # checked with everything else in tvr/checks.py, so that all problems come together
        choices = (str(choice) for choice in f.metadata["choices"] if choice is not None)
        options["metavar"] = "{" + ",".join(choices) + "}"
    if f.metadata["group"] == "dead":
        options["nargs"] = "?"
    parser.add_argument(*names, default=MISSING, **options)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `main_retrieval.py`, one argument per field of `Config`."""
    # An abbreviated flag would hide a misspelt one
    parser = Parser(prog="main_retrieval.py", description=DESCRIPTION, allow_abbrev=False)
    names = dict.fromkeys(f.metadata["group"] for f in flags())
    sections = {name: parser.add_argument_group(name) for name in names}
    for f in flags():
        add_flag(sections[f.metadata["group"]], f)
    return parser


def parse(argv: list[str] | None = None) -> Config:
    """The run's settings from the command line.

    Raises:
        UserError: an unknown flag, or a value that is not of the flag's kind.
    """
    values = {
        name: value
        for name, value in vars(build_parser().parse_args(argv)).items()
        if value is not MISSING
    }
    return Config(**preset_of(values) | values, given=frozenset(values))


def preset_of(values: dict[str, Any]) -> dict[str, Any]:
    """What `--preset` sets, if it is there; an unknown one is left to `tvr/checks.py`."""
    if values.get("preset") not in NAMES:
        return {}
    defaults = {f.name: f.default for f in flags()}
    asked = {name: values.get(name, defaults[name]) for name in ("datatype", "n_display", "device")}
    found = preset(values["preset"], **asked)
    if "kl" in values and values["kl"] != found["kl"]:
        found["beta"] = None  # a preset's β is that of its own convention
    return found
