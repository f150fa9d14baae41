"""The folder that results go to: made, told from a file, rid of what an earlier command left there, given a name."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from slobench.errors import ConfigError


def make_folder(folder: Path) -> list[Path]:
    """Make the folder; returns what is in it. ConfigError where it is a file or cannot be made."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file\n  expected  a folder that is empty or does not exist")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make {folder}: {error.strerror}\n  expected  --out DIR in a place you may write to"
        ) from None
    return sorted(folder.iterdir())


@dataclass(frozen=True, slots=True)
class Ours:
    """What a command writes into its folder, as patterns of names; all else is the user's."""

    files: tuple[str, ...]
    folders: tuple[str, ...]

    def clear(self, folder: Path) -> None:
        """Remove it."""
        for path in [path for pattern in self.folders for path in folder.glob(pattern)]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
        for path in [path for pattern in self.files for path in folder.glob(pattern)]:
            if not path.is_dir():
                path.unlink()


def prepare(folder: Path, ours: Ours, *, force: bool, resume: bool) -> None:
    """Make the folder of what can be gone on with; with `force` what is ours goes.

    ConfigError where it holds something and neither flag is given.
    """
    held = make_folder(folder)
    if held and not resume:
        if not force:
            raise ConfigError(f"{folder} is not empty\n  expected  --resume to go on, another --out, or --force")
        ours.clear(folder)


def unused_folder(name: str) -> Path:
    """results/<time>-<name>, with a number where that is there already."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    folder, number = Path("results") / stem, 2
    while folder.exists():
        folder, number = Path("results") / f"{stem}-{number}", number + 1
    return folder
