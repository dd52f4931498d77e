"""Errors in one or two plain lines that name the thing and the nearest right one.

jsonargparse explains a wrong argument of a class as the failure of every member of a union, below a page of
usage. The facts a user needs are in there; this file takes them out.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from runner.plugins import registered
from runner.shipped import shipped

# Which registered classes may stand at a key of the configuration.
KINDS = {
    "model": "modules",
    "data": "datamodules",
    "trainer.callbacks": "callbacks",
    "optimizer": "optimizers",
}

# Lines of jsonargparse's report that say only how unions work.
NOISE = re.compile(
    r"^(- )?(Does not validate against any of|Subtypes: |Errors:|Given value|Expected a <class 'NoneType'>"
    r"|Expected a path but .* either not accessible or invalid|Problem with given class_path|Parser key)"
)


class UserError(Exception):
    """A mistake that the user can mend: printed as it is, without a traceback; exit code 2."""


def nearest(word: str, candidates: Iterable[str]) -> str:
    """Says which candidate was probably meant, or lists them; empty where there are none.

    Args:
        word: what the user wrote.
        candidates: the right names.
    """
    names = sorted(set(candidates))
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.5)
    if near:
        return f" Did you mean {folded[near[0]]!r}?"
    return f" Known: {', '.join(names)}." if names and len(names) <= 30 else ""


@dataclass(frozen=True)
class Context:
    """What the user wrote and what the parser knows.

    Args:
        options: the option strings of the parser.
        arguments: the command line.
        configs: the configuration files that it names.
    """

    options: Sequence[str]
    arguments: Sequence[str]
    configs: Sequence[Path]

    def where(self, word: str) -> str:
        """Where `word` stands: ' (config.yaml, line 3)', ' (on the command line)' or nothing."""
        if not word:
            return ""
        as_word = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
        if any(as_word.search(argument) for argument in self.arguments if not argument.endswith((".yaml", ".yml"))):
            return " (on the command line)"
        for path in self.configs:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if as_word.search(line.split(" #")[0]):
                    return f" ({path}, line {number})"
        return ""

    def class_at(self, key: str) -> str:
        """The dotted path of the class that the user put at `key` (`model`, `data`); empty if there is none."""
        pattern = re.compile(rf"--{re.escape(key)}(?:\.class_path)?(?:=|\n)(\S+)")
        on_command_line = pattern.findall("\n".join(self.arguments))
        in_configs = [value for path in self.configs if (value := _class_path_in(path, key))]
        name = (on_command_line or in_configs or [""])[-1]
        return next(
            (plugin.class_path for plugin in registered(KINDS.get(key, "modules")) if plugin.name == name), name
        )


def _class_path_in(path: Path, key: str) -> str:
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value.get("class_path", "") if isinstance(value, dict) else value if isinstance(value, str) else ""


def explain(message: str, context: Context) -> str:
    """Shortens an error message of the argument parser.

    Args:
        message: jsonargparse's report.
        context: what the user wrote.

    Returns:
        One or two lines.
    """
    for pattern, reword in PATTERNS:
        if match := re.search(pattern, message, re.DOTALL):
            text, word = reword(match, context)
            return text + context.where(word)
    kept = [line.strip(" -") for line in message.splitlines() if line.strip() and not NOISE.match(line.strip())]
    return " ".join(dict.fromkeys(kept[:3])) or message.splitlines()[0]


def is_union_report(message: str) -> bool:
    """Whether jsonargparse wrapped an error into one about the members of a union."""
    return message.startswith("Does not validate against any of the Union subtypes")


def _missing_config(match: re.Match[str], context: Context) -> tuple[str, str]:
    path = Path(match["path"])
    neighbors = [*path.parent.glob("*.y*ml"), *shipped("configs").glob("*.yaml")]
    return f"there is no config file {path}.{nearest(path.name, [file.name for file in neighbors])}", path.name


def _missing_argument(match: re.Match[str], context: Context) -> tuple[str, str]:
    missing = " and ".join("--" + name.split(".", 1)[1] for name in match["names"].split(", "))
    return f"{missing} are missing: give a --config, for example configs/relativistic_gan.yaml.", ""


def _unknown_option(match: re.Match[str], context: Context) -> tuple[str, str]:
    word = match["option"].split("=")[0]
    return f"there is no option {word}.{nearest(word, context.options)}", word


def _unknown_argument(match: re.Match[str], context: Context) -> tuple[str, str]:
    key, name = match["key"], match["name"]
    class_path = match["class_path"] or match["given"] or context.class_at(key)
    accepted = _parameters(class_path) if class_path else []
    owner = class_path.split(".")[-1] or key
    return f"{owner} has no argument {name!r}.{nearest(name, accepted)}", name.split(".")[-1]


def _unknown_key(match: re.Match[str], context: Context) -> tuple[str, str]:
    name = match["name"]
    known = [option.removeprefix("--") for option in context.options]
    return f"there is no setting {name!r}.{nearest(name, known)}", name.split(".")[-1]


def _unknown_class(match: re.Match[str], context: Context) -> tuple[str, str]:
    key, name = match["key"], match["name"]
    kind = next((kind for prefix, kind in KINDS.items() if key.startswith(prefix)), None)
    known = [plugin.name for plugin in registered(kind)] if kind else []
    return f"{key}: there is no class {name!r}.{nearest(name.split('.')[-1], known)}", name


def _unimportable(match: re.Match[str], context: Context) -> tuple[str, str]:
    return f"{match['key']}: {match['name']} cannot be imported: {match['reason'].strip()}.", match["name"]


def _wrong_type(match: re.Match[str], context: Context) -> tuple[str, str]:
    value = match["value"].strip()
    inner = match["inner"] or match["key"]
    key = inner if inner.startswith(match["key"]) else f"{match['key']}: {inner}"
    return f"{key} must be {_plain_type(match['type'])}, not {value!r}.", inner.split(".")[-1]


def _plain_type(text: str) -> str:
    """`<class 'float'>` and `typing.Literal['a', 'b']` in plain words."""
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text.strip())
    if literal := re.match(r"(?:typing\.)?Literal\[(.*)\]", text):
        return "one of " + literal[1]
    return {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "text"}.get(text, text)


def _parameters(class_path: str) -> list[str]:
    """The names of the arguments of a class's constructor."""
    module, _, name = class_path.rpartition(".")
    target: Any = getattr(import_module(module), name)
    return [p.name for p in inspect.signature(target).parameters.values() if p.kind is not p.VAR_KEYWORD]


def _broken_yaml(match: re.Match[str], context: Context) -> tuple[str, str]:
    reason = " ".join(match["reason"].split())
    for path in context.configs:
        try:
            yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            return f"{path} is not YAML{line}: {getattr(error, 'problem', reason)}.", ""
    return reason, ""


Reword = Callable[[re.Match[str], Context], tuple[str, str]]
# Tried in order; DOTALL, so that `.*?` spans the lines of a report.
PATTERNS: list[tuple[str, Reword]] = [
    (r"File does not exist: '(?P<path>[^']+)'", _missing_config),
    (r"the following arguments are required: (?P<names>.*)", _missing_argument),
    (r"Problems parsing config: (?P<reason>.*)", _broken_yaml),
    (r"unrecognized arguments: (?P<option>\S+)", _unknown_option),
    (r"does not accept option '(?P<name>[\w.]+)'", _unknown_key),
    (
        r'Parser key "(?P<key>[\w.]+)".*?(?:given class_path \'(?P<class_path>[^\']+)\':\s+)?'
        r"Option '(?P<name>[\w.]+)' is not accepted"
        r"(?:.*Given value: \{'class_path': '(?P<given>[\w.]+)')?",
        _unknown_argument,
    ),
    (r'Parser key "(?P<key>[\w.]+)".*?Expected a dot import path string: (?P<name>\S+)', _unknown_class),
    (
        r'Parser key "(?P<key>[\w.]+)".*?given class_path \'(?P<name>[^\']+)\':\s+'
        r"(?P<reason>(?:module |No module named|cannot import)[^\n]*)",
        _unimportable,
    ),
    (
        r'Parser key "(?P<key>[\w.]+)":(?:.*Parser key "(?P<inner>[\w.]+)":)?\s*'
        r"Expected an? (?P<type>[^\n]+?)\. Got value: (?P<value>[^\n]+)",
        _wrong_type,
    ),
]
