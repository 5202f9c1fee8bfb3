"""The forms of values: what a text of an option or a variable becomes, and what is refused."""

import ipaddress
import re
import shlex
from importlib.util import find_spec
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
)
from pydantic_settings import NoDecode


def _split_at_commas(words: object) -> object:
    """Split one text, or each text of a list, at its commas. Other values are returned unchanged, for pydantic to refuse."""
    texts = [words] if isinstance(words, str) else words
    if not isinstance(texts, list):
        return words
    return tuple(word.strip() for text in texts for word in text.split(",") if word.strip())


def _split_as_a_shell(words: object) -> object:
    """Split one text, or each text of a list, as a shell does. Other values are returned unchanged, for pydantic to refuse."""
    texts = [words] if isinstance(words, str) else words
    return tuple(word for text in texts for word in shlex.split(text)) if isinstance(texts, list) else words


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_at_commas)]


def host_names(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names and addresses of hosts in lower case. Raises `ValueError` for one with a scheme, a port, a path or a wildcard."""
    for host in hosts:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", host) or re.fullmatch(r"[^:]+:\d+", host):
            message = f"{host!r} is no host: a name or an address alone, such as images.example.org"
            raise ValueError(message)
    return tuple(host.lower() for host in hosts)


CommandLine = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_as_a_shell)]


def base_urls(urls: tuple[str, ...]) -> tuple[str, ...]:
    """Return URLs without a slash at their end. Raises `ValueError` for one that is more than a scheme, a host and a port."""
    for url in urls:
        parts = urlsplit(url)
        has_more = parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password or parts.port == 0
        if parts.scheme not in {"http", "https"} or not parts.hostname or has_more:
            message = (
                f"{parts._replace(netloc=parts.hostname or '').geturl()!r} is no URL of a server, such as http://10.0.0.7:8000"
            )
            raise ValueError(message)
    return tuple(url.rstrip("/") for url in urls)


def object_store(url: str | None) -> str | None:
    """Return the URL of a folder. Raises `ValueError` where fsspec does not know its scheme, or lacks the package for it."""
    if url is None:
        return None
    parts = urlsplit(url)
    if not re.fullmatch(r"[a-z][a-z0-9+]*", parts.scheme) or parts.username or parts.password or parts.query or parts.fragment:
        message = "a URL of a folder, such as s3://bucket/adapters, without a user, a password or a query"
        raise ValueError(message)
    from fsspec import get_filesystem_class  # noqa: PLC0415 - takes a while

    try:
        get_filesystem_class(parts.scheme)
    except (ImportError, ValueError) as error:
        message = f"fsspec cannot open {parts.scheme}:// here: {error}"
        raise ValueError(message) from error
    return url.rstrip("/")


def store_url(url: str | None) -> str | None:
    """Return the URL of a store. The message does not contain it, since it may have a password."""
    if url is not None and not re.fullmatch(r"(rediss?://[^\s/]+|unix://(\S*@)?/)\S*", url):
        message = "a URL that begins with redis://, rediss:// or unix://, and names the host or the socket"
        raise ValueError(message)
    return url


def is_installed(*modules: str) -> bool:
    """Whether all these modules can be imported. A name with a dot imports the package that contains the module."""
    try:
        return all(find_spec(module) for module in modules)
    except ModuleNotFoundError:  # a package that contains the module is missing
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
