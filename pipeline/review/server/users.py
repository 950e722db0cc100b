"""A file of users: a line each, ``name:hash`` with the hash of the password by argon2id."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from configs import ConfigError
from pipeline.review.store import ChangeError
from pipeline.review.store.changes import checked_name
from pipeline.slides.readers.base import show

SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1000

_MOST_BYTES = 1 << 20


class Users:
    """Who may come in.

    Attributes:
        doubts: what a person should know of the file.
    """

    def __init__(self, hashes: Mapping[str, str], doubts: tuple[str, ...] = ()) -> None:
        self._hashes = {name.casefold(): (name, value) for name, value in hashes.items()}
        self.doubts = doubts
        self._hasher = PasswordHasher()
        # Of a name that nobody has as much is computed, so that the time tells nothing.
        self._nobody = self._hasher.hash("nobody has this one")
        self._one_at_a_time = threading.Lock()  # a hash takes 64 MiB and all of a core

    @classmethod
    def load(cls, path: Path) -> Users:
        """Reads the file.

        Raises:
            ConfigError: it is not there, not as it should be, or names nobody.
        """
        try:
            status = path.stat()
            if status.st_size > _MOST_BYTES:
                raise ConfigError(f"--users {show(path)}: is no file of users: it is too large")
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ConfigError(f"--users {show(path)}: can't be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"--users {show(path)}: is no text in UTF-8") from error
        hashes: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, mark, value = line.strip().partition(":")
            if not mark or not value.startswith("$argon2id$") or not _is_hash(value):
                raise ConfigError(
                    f"--users {show(path)}, line {number}: expected name:$argon2id$...; add users "
                    "with cytolibra view --add-user NAME FILE"
                )
            if name.casefold() in {known.casefold() for known in hashes}:
                raise ConfigError(f"--users {show(path)}, line {number}: {name} is there twice")
            hashes[name] = value
        if not hashes:
            raise ConfigError(
                f"--users {show(path)}: names nobody; add users with cytolibra view --add-user "
                "NAME FILE"
            )
        doubts = ()
        if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
            doubts = (f"{show(path)}: others on this machine can read it; chmod 600",)
        return cls(hashes, doubts)

    def check(self, name: str, password: str) -> str | None:
        """The name as the file has it where the password is right, else None."""
        known = self._hashes.get(name.casefold())
        with self._one_at_a_time:
            try:
                self._hasher.verify(known[1] if known else self._nobody, password)
            except (VerificationError, InvalidHashError):
                return None
        return known[0] if known else None


def add_user(path: Path, name: str, password: str) -> bool:
    """Adds a user to a file, made where there is none, for its owner alone; or changes a password.

    Returns:
        Whether the user is new.

    Raises:
        ConfigError: the name or the password can't be taken, or the file can't be written.
    """
    try:
        name = checked_name(name)
    except ChangeError as error:
        raise ConfigError(str(error)) from None
    if ":" in name or name.startswith("#"):
        raise ConfigError(f"{name}: a user's name has no colon, and no # at its beginning")
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ConfigError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{show(path)}: can't be read: {error}") from error
    kept = [one for one in lines if one.partition(":")[0].casefold() != name.casefold()]
    text = "\n".join([*kept, f"{name}:{PasswordHasher().hash(password)}"]) + "\n"
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        number = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"{show(path)}: can't be written: {error.strerror}") from error
    return len(kept) == len(lines)


def _is_hash(value: str) -> bool:
    try:
        PasswordHasher().check_needs_rehash(value)
    except InvalidHashError:
        return False
    return True
