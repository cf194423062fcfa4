"""The address of a server: checked, and shown or recorded without the secrets that it may hold. Its key.

Reads the environment variable of the key; writes nothing. Refuses an address with a user, a password or a query:
command lines are recorded. A key in the path, as some gateways want it, is sent, but is a hash wherever it is shown.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from rrr_cli.errors import USAGE, RrrError

KEY_VARIABLE = "OPENAI_API_KEY"
FILE = "@"  # begins the path of a file of addresses
FLEET = "a fleet of servers"  # is recorded in place of its addresses: servers come and go
WEB_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+://|https?:/)([^\s/?#'\"<>]*)([^\s?#'\"<>]*)([?#][^\s'\"<>]*)?", re.I)
# A part of a path that begins so is a key, whatever it looks like.
KEY_STARTS = re.compile(
    r"(sk|pk|rk|key|api|apikey|token|secret|auth|bearer|hf|gsk|xai|nvapi|pat|ghp|pass)[-_.:=].{3}", re.I)
# What else a part is made of: words, versions, names of models.
WORDS = re.compile(r"v[0-9]+[a-z]{2,7}[0-9]?|[A-Z]?[a-z]{0,20}|[A-Z]{1,5}|[0-9]{1,8}|[A-Za-z0-9]{1,5}")


def address(base_url: str | None) -> str:
    """`base_url` without a slash at its end. Raises RrrError (exit 2): none, no web address, or one with a secret."""
    if not base_url:
        raise RrrError("--engine openai needs --base-url, such as http://localhost:8000/v1", USAGE)
    try:
        parts = urlsplit(base_url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise RrrError("--base-url is not an address such as http://localhost:8000/v1", USAGE)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise RrrError(
            "--base-url contains a user, a password or a query, and command lines are recorded: put the key into the "
            f"environment variable {KEY_VARIABLE}", USAGE,
        )
    return base_url.rstrip("/")


def is_fleet(base_url: str | tuple[str, ...]) -> bool:
    """Whether these are the servers of a fleet: several addresses, or a file of them, however many it has."""
    return not isinstance(base_url, str) or base_url.startswith(FILE)


def recorded(base_url: str | tuple[str, ...]) -> str:
    """What a run records of --base-url, and is resumed with: the address of a server without its secrets, or `FLEET`.
    """
    return FLEET if is_fleet(base_url) else without_secrets(str(base_url).rstrip("/"))


def without_secrets(text: str) -> str:
    """`text` with its web addresses as they may be shown: no user, password or query, and a hash in place of each part
    of a path that looks like a key. Two addresses that differ in their keys stay different."""
    return WEB_ADDRESS.sub(_shown, text) if ":/" in text else text


def secrets_of(url: str) -> list[str]:
    """The parts of an address's path that look like keys."""
    return [part for part in urlsplit(url).path.split("/") if _is_secret(part)]


def _shown(found: re.Match[str]) -> str:
    from rrr_cli.records import content_id  # an address is rare, and `rrr --help` waits for no table

    scheme, host, path, query = found.groups("")
    user, at, host = host.rpartition("@")
    parts = [f"***{content_id(part)[:8]}" if _is_secret(part) else part for part in path.split("/")]
    return f"{scheme}{'***@' if at or user else ''}{host}{'/'.join(parts)}{query[:1] + '***' if query[1:] else query}"


def _is_secret(part: str) -> bool:
    """Whether a part of a path is no plain word, version or model's name: random letters and digits, or a named key."""
    if len(part) < 6 or part.startswith("***"):
        return False
    pieces = re.split(r"[-_.~:+@, ]", part)
    return bool(KEY_STARTS.match(part)) or not all(WORDS.fullmatch(piece) for piece in pieces)


def api_key(variable: str) -> str | None:
    """The key, or None where the default variable isn't set. Raises RrrError (exit 2): no variable, or not a key."""
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", variable):
        raise RrrError("--api-key-env is the name of an environment variable, not the key itself", USAGE)
    key = os.environ.get(variable, "").strip()
    if not key and variable != KEY_VARIABLE:
        name = variable if variable.isupper() else "that it names"  # it may be the key itself
        raise RrrError(f"--api-key-env: the environment variable {name} is not set", USAGE)
    if not re.fullmatch("[!-~]*", key):
        raise RrrError(
            f"the environment variable {variable} contains white space or other characters that a key can't have", USAGE
        )
    return key or None
