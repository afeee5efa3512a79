"""What of an input is taken: patterns of names, names without a suffix, and the columns of tables."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, fields

from ..errors import InputError

DEFAULT_EXCLUDES = (
    *("@eaDir", ".thumbnails", "._*", "#recycle", "$RECYCLE.BIN", ".Trash*", ".git", "__MACOSX"),
    *("Thumbs.db", ".DS_Store"),
)
"""Names of files and folders that programs keep beside photos: thumbnails, forks, trash, repositories."""


@dataclass(frozen=True)
class Choice:
    """What of an input is taken. Patterns hold for what lies in folders and archives, not for what a list names.

    A pattern is a glob: ``*``, ``?`` and ``[abc]``, and upper case counts. Without a slash it is compared with the name of
    each file and of each folder on the way to it; with one, with the whole path below the input, where ``*`` stands for
    slashes too.

    Args:
        include: where there are any, only files that one of these patterns fits are taken.
        exclude: files and folders that one of these patterns fits are left out, whatever ``include`` says.
        default_excludes: leave out `DEFAULT_EXCLUDES` too.
        sniff: in folders, look at the first bytes of each file whose name is not an image's, and take it where they are an
            image's.
        image_column: in tables (Parquet, Arrow, ``.csv``, ``.jsonl``), the column of the photos; by default the one that
            can only be it.
        id_column: in tables, the column of the ids. By default they are the rows' numbers, and in ``.csv`` and ``.jsonl`` a
            column ``id``, where there is one.

    Raises:
        InputError: a pattern is empty.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    default_excludes: bool = True
    sniff: bool = False
    image_column: str | None = None
    id_column: str | None = None

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            patterns = getattr(self, name)
            if isinstance(patterns, str):
                object.__setattr__(self, name, (patterns,))
            elif not isinstance(patterns, tuple):
                object.__setattr__(self, name, tuple(patterns))
            if "" in getattr(self, name):
                raise InputError(f"a pattern to {name} is empty; expected a glob such as '*.jpg'")

    def texts(self) -> list[str]:
        """What differs from the default, as texts: a plan holds them beside its inputs."""
        values = [(field.name, getattr(self, field.name), field.default) for field in fields(self)]
        return [f"{name}={value}" for name, value, default in values if value != default]


class Sieve:
    """The patterns of a choice, ready to be compared with many names.

    Args:
        choice: whose patterns these are.
    """

    def __init__(self, choice: Choice) -> None:
        excludes = (*choice.exclude, *(DEFAULT_EXCLUDES if choice.default_excludes else ()))
        self._excludes = _Patterns(excludes)
        self._includes = _Patterns(choice.include) if choice.include else None

    def excluded(self, name: str) -> str | None:
        """The pattern that leaves a file or a folder out, or None. The folders on the way to it were compared before.

        Args:
            name: its path below the input, without a slash at the end.
        """
        return self._excludes.fitting(name, name.rpartition("/")[2])

    def excluded_member(self, name: str) -> str | None:
        """The same for a member of an archive, whose folders are compared here."""
        whole = self._excludes.fitting(name, "")
        if whole is not None or not self._excludes.has_names:
            return whole
        return next(filter(None, (self._excludes.fitting("", part) for part in name.split("/"))), None)

    def included(self, name: str) -> bool:
        """Whether the patterns to include, if there are any, let a file pass."""
        return self._includes is None or self._includes.fitting(name, name.rpartition("/")[2]) is not None


class _Patterns:
    """Globs as two regular expressions: one for single names and one for whole paths."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = patterns
        self._names = _expression((number, text) for number, text in enumerate(patterns) if "/" not in text)
        self._paths = _expression((number, text.lstrip("/")) for number, text in enumerate(patterns) if "/" in text)

    @property
    def has_names(self) -> bool:
        """Whether there is a pattern for single names."""
        return self._names is not None

    def fitting(self, path: str, name: str) -> str | None:
        """The first pattern that fits a name, or else a path; either may be empty."""
        found = (name and self._names and self._names.match(name)) or (path and self._paths and self._paths.match(path))
        return self._patterns[int((found.lastgroup or "p0")[1:])] if found else None


def _expression(patterns: object) -> re.Pattern[str] | None:
    parts = [f"(?P<p{number}>{fnmatch.translate(text)})" for number, text in patterns]  # type: ignore[attr-defined]
    return re.compile("|".join(parts)) if parts else None
