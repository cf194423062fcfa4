"""The addresses of --base-url: one, several, or those in a file.

Reads that file. Refuses what isn't a web address, and one with a secret.
"""

from __future__ import annotations

from pathlib import Path

from rrr_cli.addresses import FILE, address
from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.text import read_text


def addresses_of(base_url: str | tuple[str, ...] | None) -> list[str]:
    """The addresses of --base-url, each once: those of a file, one a line, without comments.

    Raises RrrError: none, no web address, or one with a secret (exit 2); a file that can't be read (3).
    """
    urls: list[str] = []
    every: tuple[str | None, ...] = base_url if isinstance(base_url, tuple) else (base_url,)
    for given in every or (None,):
        urls += in_file(Path(given.removeprefix(FILE))) if given and given.startswith(FILE) else [address(given)]
    return list(dict.fromkeys(urls))


def in_file(path: Path) -> list[str]:
    """The addresses in a file, one a line; after a # stand comments. Raises as `addresses_of`."""
    try:
        lines = [line.partition("#")[0].strip() for line in read_text(path).split("\n")]
    except OSError as error:
        raise RrrError(f"--base-url @{path}: {error.strerror}", BAD_INPUT) from None
    except UnicodeDecodeError:
        raise RrrError(f"--base-url @{path} is not a text file with an address a line", BAD_INPUT) from None
    urls = []
    for number, line in enumerate(lines, 1):
        try:
            urls += [address(line)] if line else []
        except RrrError as error:
            raise RrrError(f"--base-url @{path}, line {number}: {error}", error.exit_code) from None
    if not urls:
        raise RrrError(
            f"--base-url @{path} has no address: write one a line, such as http://localhost:8000/v1", BAD_INPUT)
    return urls
