"""Makes the fields of a pydantic model the options of a command, so that help, validation and documents have one source."""

import csv
import functools
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from pydantic import AliasChoices, BaseModel, BeforeValidator, HttpUrl, SecretStr
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from app.cli.client import exit_with_error
from app.option_file import BadOptions
from app.settings import read_options

M = TypeVar("M", bound=BaseModel)

_WORDS = {SecretStr: "<text>", int: "<integer>", float: "<number>", str: "<text>", Path: "<path>", HttpUrl: "<url>"}
"""The word for each type of field on help pages."""

_NOTE = re.compile(r"\[(default|env): (\S+)\]")
"""Matches the notes in a help text, such as `[default: 1]`, which are not broken into two lines."""

_ARGUMENT = "first_word"


class GroupedCommand(TyperCommand):
    """A command whose help page shows its options in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group. Arguments and options without a group come first."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is None:
                continue
            name, text = record
            if parameter.param_type_name == "argument":
                name = (
                    parameter.metavar or parameter.name
                )  # typer's record of an argument has a Python type too, which the page does not show
            title = getattr(parameter, "rich_help_panel", None) or f"{parameter.param_type_name.capitalize()}s"
            sections.setdefault(title, []).append((name, _NOTE.sub("[\\1:\N{NO-BREAK SPACE}\\2]", text)))
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
        formatter.buffer[:] = [text.replace("\N{NO-BREAK SPACE}", " ") for text in formatter.buffer]


def takes_options(
    model: type[M],
    *,
    read: Callable[[Mapping[str, Any]], M] | None = None,
    env_prefix: str | None = None,
    argument: str | None = None,
) -> Callable[[Callable[[M], None]], Callable[..., None]]:
    """A decorator: the command gets an option for each field of `model`, and is called with the validated model.

    Args:
        model: where names, types, defaults and descriptions of the options come from.
        read: makes a `model` of the options that were given; raises `BadOptions`. By default `model` validates them.
        env_prefix: the prefix of the environment variables that `read` reads. The help page shows their names.
        argument: a field that may also be given as the first word, without its option.

    The command ends with status 1 and one line when a value is wrong.
    """
    fields = {name: field for own, field in model.model_fields.items() for name in _names(own, field)}
    new_names = {old: new for own, field in model.model_fields.items() for new, *olds in [_names(own, field)] for old in olds}
    parameters = [*_arguments(argument), *_parameters(model, env_prefix)]

    def validate(values: dict[str, Any]) -> M:
        first_word = values.pop(_ARGUMENT, None)
        given = {name: _decode(name, fields[name], value) for name, value in values.items() if value not in (None, [])}
        if argument and first_word is not None and given.setdefault(argument, first_word) != first_word:
            raise BadOptions(f"{argument}: given twice, as {first_word} and as {given[argument]}")
        for name in given.keys() & new_names.keys():
            new = new_names[name].replace("_", "-")
            typer.echo(
                f"ponder: --{name.replace('_', '-')} is deprecated and will be removed in the next release: use --{new}",
                err=True,
            )
        return read(given) if read else read_options(model, given)

    def decorate(command: Callable[[M], None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            try:
                options = validate(values)
            except BadOptions as error:
                exit_with_error(error)
            command(options)

        # typer reads this signature, and makes an option or an argument of each parameter in it.
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _arguments(field: str | None) -> Iterator[inspect.Parameter]:
    """Yield the parameter for the first word, if a field may be given without its option."""
    if field is not None:
        argument = typer.Argument(metavar=field.upper(), help=f"the same as --{field.replace('_', '-')}")
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        yield inspect.Parameter(_ARGUMENT, kind, default=None, annotation=Annotated[str | None, argument])


def _names(name: str, field: FieldInfo) -> list[str]:
    """The names under which a field may be given: its own, or the choices of its alias, the current name first."""
    alias = field.validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [name]


def _parameters(model: type[BaseModel], env_prefix: str | None) -> Iterator[inspect.Parameter]:
    """An optional parameter for each option; `None`, or an empty list, when it is not given. pydantic finds missing ones."""
    for own, field in model.model_fields.items():
        kind = _plain_type(field.annotation)
        taken: Any = bool if kind is bool else list[str] if typing.get_origin(kind) in (tuple, dict) else str
        current, *_old = names = _names(own, field)
        for name in names:
            flag = name.replace("_", "-")
            option = typer.Option(
                f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}",
                *_other_options(field),
                metavar=_type_word(kind),
                help=_help(name, field, env_prefix),
                rich_help_panel=_group(model, own),
                hidden=name != current,
                autocompletion=_completion(kind),
            )
            annotation = Annotated[taken | None, option]
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _other_options(field: FieldInfo) -> Iterator[str]:
    """Yield another spelling of the option, from `other_option` in the field's `json_schema_extra`. Only the command line knows it."""
    if isinstance(extra := field.json_schema_extra, dict) and "other_option" in extra:
        yield f"--{extra['other_option']}"


def _plain_type(annotation: Any) -> Any:
    """The type without `None` and without metadata."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated:
        return _plain_type(arguments[0])
    if type(None) in arguments:
        return _plain_type(next(argument for argument in arguments if argument is not type(None)))
    return annotation


def _type_word(kind: Any) -> str | None:
    """What a help page shows for a value of this type; a flag has none."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        return f"<{'|'.join(typing.get_args(kind))}>"
    if origin is tuple:
        return "<text,text,…>"
    return "<JSON>" if origin is dict else _WORDS.get(kind)


def _completion(kind: Any) -> Callable[[str], list[str]] | None:
    """Return the function that completes a value in a shell, None for a type without a list of choices."""
    if typing.get_origin(kind) is not Literal:
        return None
    return lambda incomplete: [choice for choice in typing.get_args(kind) if choice.startswith(incomplete)]


def _help(name: str, field: FieldInfo, env_prefix: str | None) -> str:
    """The description, the default, whether the option is required, and the variable that may stand for it."""
    notes = [field.description or ""]
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if field.is_required():
        notes.append("[required]")
    elif isinstance(default, bool):
        notes.append(f"[default: {'yes' if default else 'no'}]")
    elif default not in (None, (), {}):
        notes.append(f"[default: {', '.join(default) if isinstance(default, tuple) else default}]")
    if env_prefix is not None:
        notes.append(f"[env: {env_prefix}{name.upper()}]")
    return " ".join(notes)


def _group(model: type[BaseModel], name: str) -> str | None:
    """The `help_group` of the first class that has the field."""
    owner = next(one for one in reversed(model.__mro__) if name in inspect.get_annotations(one))
    return owner.__dict__.get("help_group")


def _decode(name: str, field: FieldInfo, value: str | bool | list[str]) -> Any:
    """The value of an option as pydantic validates it: `None` where the field allows it, JSON as objects, texts as lists."""
    if isinstance(value, list):
        if typing.get_origin(_plain_type(field.annotation)) is dict:
            return {key: item for text in value for key, item in _parse_object(name, text).items()}
        splits_itself = any(isinstance(one, BeforeValidator) for one in field.metadata)
        return value if splits_itself else [item for text in value for item in _split_list(text)]
    return None if value == "None" and type(None) in typing.get_args(field.annotation) else value


def _parse_object(name: str, text: str) -> dict[str, Any]:
    """Parse a JSON object, or raise `BadOptions`. The message does not contain the text, since the text may contain keys."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise BadOptions(f"{name}: not a JSON object")
    return value


def _split_list(text: str) -> Iterable[str]:
    """The items of a JSON list, or texts separated by commas."""
    if text.startswith("["):
        try:
            return [str(item) for item in json.loads(text)]
        except ValueError:
            text = text[1:].removesuffix("]")
    return (item.strip() for item in next(csv.reader([text], skipinitialspace=True), []))
