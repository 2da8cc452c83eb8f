"""Addresses of servers: what is one, and secrets in it, which would end up in files."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from gemmule.base.errors import RequestError

# what stands in an address before an "@", and what a parameter of one may be called, where it is a secret
USER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/*[^/?#\s]*@")

SECRET = re.compile(r"key|token|secret|passw|pwd|auth|signature|credential|^sig$|^pw$", re.IGNORECASE)


def is_url(origin: str | Path) -> bool:
    return str(origin).startswith(("http://", "https://"))


def refuse_secrets(value: str, key: str) -> None:
    """Raises RequestError for an address with a password or key in it, without repeating it.

    What a recipe says is written into reports and manifests, which people share.
    """
    parameters = parse_qsl(urlsplit(value).query, keep_blank_values=True) if _splits(value) else []
    if USER.match(value.strip()) or any(SECRET.search(name) for name, _ in parameters):
        raise RequestError(
            f"{key}: its address holds a user, password or key, which would be written into every file of the run; "
            "take it out: a server's key is read from the environment variable GEMMULE_API_KEY"
        )


def check_address(url: str, key: str) -> None:
    """Raises RequestError for what can't be the address of a server, as http://host:8000/v1."""
    refuse_secrets(url, key)
    parts = urlsplit(url) if _splits(url) else None
    if parts is None or not parts.hostname or not url.isprintable() or " " in url:
        raise RequestError(f"{key} = {url!r}: not a server address, such as http://host:8000/v1")
    if parts.query or parts.fragment:
        raise RequestError(f"{key} = {url!r}: a server address ends in its path, such as http://host:8000/v1")


def _splits(url: str) -> bool:
    try:
        return urlsplit(url).port is not None or True
    except ValueError:  # a port that is none, half an IPv6 address
        return False
