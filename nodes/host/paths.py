"""The host's folders: output files, saved files and model files."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import folder_paths

from ...characters import excerpt, is_cut_on_windows, is_device
from ...errors import BadInput, StorageError
from ...model.files.stamp import Stamp, stamp

logger = logging.getLogger("longtake")

MAX_NAME_BYTES = 180
"""Of a file that the user names. Disks take 255, of which numbers and endings need up to 75, such
as those of a temporary file.
"""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Characters such as a line's end, which lists and terminals do not show as part of a name."""
OF_THE_PAGE = re.compile(r"%(?:date:[^%]*|[^%./\\]+\.[^%/\\]+)%")
"""Tokens such as %date:yyyy-MM-dd% and %Node.widget%, which no server replaces."""
NOT_ON_WINDOWS = re.compile(r'[<>:"|?*]')
"""Characters that no file's name has there; what follows a colon would be hidden in the file."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file below the host's output or temp folder, and how the host names it to the browser."""

    path: Path
    subfolder: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.name


def output_file(
    prefix: str, suffix: str, size: tuple[int, int] = (0, 0), *, temporary: bool = False
) -> OutputFile:
    """The next free `prefix_00001_suffix` in the output (or temp) folder, and nowhere else.

    `size` is the width and height in pixels that `%width%` and `%height%` stand for.
    """
    return output_files(prefix, suffix, size, temporary=temporary)()


def output_files(
    prefix: str, suffix: str, size: tuple[int, int] = (0, 0), *, temporary: bool = False
) -> Callable[[], OutputFile]:
    """What gives the next free file at each call; a prefix is complained of once."""
    folder = folder_paths.get_temp_directory() if temporary else folder_paths.get_output_directory()
    root = Path(folder).resolve()
    check_prefix(prefix, root)
    if left := OF_THE_PAGE.search(prefix):
        logger.warning(
            "filename_prefix keeps %s as it is: only ComfyUI's page replaces such a text, and only "
            "where the workflow has that node; %%year%%, %%month%% and %%day%% work everywhere.",
            excerpt(left[0]),
        )
    return partial(_next_free, prefix, suffix, size, root)


def _next_free(prefix: str, suffix: str, size: tuple[int, int], root: Path) -> OutputFile:
    try:
        parent, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            prefix, str(root), *size
        )
    except OSError as error:
        _check_folder(prefix, Path(error.filename or root))  # of a prefix with tokens
        raise StorageError(
            f"The output folder {root} cannot be used ({error.strerror}); choose one that can be "
            "written."
        ) from error
    return OutputFile(Path(parent) / f"{name}_{counter:05}_{suffix}", subfolder)


def result_picture(file: OutputFile) -> dict[str, object]:
    """Tell this pack's page of a node's picture in the temp folder, which it shows in the node.

    Under the host's own name, `images`, ComfyUI's front end 1.58 draws the node larger than it is.
    """
    entry = {"role": "picture", "filename": file.name, "subfolder": file.subfolder, "type": "temp"}
    return {"longtake_picture": [entry]}


def check_prefix(prefix: str, root: Path | None = None) -> None:
    """BadInput for a prefix that names no file below `root`, else below the output folder."""
    root = root or Path(folder_paths.get_output_directory()).resolve()
    named = Path(prefix).name not in ("", "..") and "\0" not in prefix
    if not named or not (root / prefix).resolve().is_relative_to(root):
        raise BadInput(
            f"filename_prefix {excerpt(prefix)} is not a file name inside the output folder "
            f"{root}; use a name such as longtake/clip."
        )
    if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in Path(prefix).parts):
        raise BadInput(
            f"filename_prefix {excerpt(prefix)} has a name of more than {MAX_NAME_BYTES} bytes, "
            "and numbers and endings follow it; use a shorter name such as longtake/clip."
        )
    control = CONTROL.search(prefix)
    if control is not None:
        raise BadInput(
            f"filename_prefix {excerpt(prefix)} has the control character {control[0]!r}; use a "
            "name of one line, such as longtake/clip."
        )
    wrong = _not_on_windows(prefix) if sys.platform == "win32" else None
    if wrong is not None:
        raise BadInput(
            f"filename_prefix {excerpt(prefix)} has {excerpt(wrong)}, which no file's name has on "
            "Windows; use a name such as longtake/clip."
        )
    _check_folder(prefix, (root / prefix).parent)


def _not_on_windows(prefix: str) -> str | None:
    """A character or a part of a prefix that Windows cannot have in a path; None where all fit."""
    if wrong := NOT_ON_WINDOWS.search(prefix):
        return wrong[0]
    *folders, name = re.split(r"[/\\]", prefix)
    for folder in folders:
        if folder not in (".", "..") and (is_device(folder) or is_cut_on_windows(folder)):
            return folder
    return name if is_device(f"{name}_") else None  # a number follows: CON_00001_.mp4 is a file


def _check_folder(prefix: str, folder: Path) -> None:
    """BadInput where a file stands in the place of `folder`, or of a folder around it."""
    for place in (folder, *folder.parents):
        if os.path.lexists(place) and not os.path.isdir(place):  # these raise no error themselves
            raise BadInput(
                f"filename_prefix {excerpt(prefix)} needs the folder {place}, where a file stands; "
                "move that file, or use another name."
            )


def temp_folder() -> Path:
    """The temp folder, which the host may empty when it starts and ends."""
    return Path(folder_paths.get_temp_directory())


def folders() -> dict[str, Path]:
    """The folders that nodes write to, by name."""
    by_name = {
        "output": folder_paths.get_output_directory(),
        "temp": folder_paths.get_temp_directory(),
    }
    for path in by_name.values():
        Path(path).mkdir(parents=True, exist_ok=True)  # the host makes them when it needs them
    return {name: Path(path) for name, path in by_name.items()}


def rollout_folder() -> Path:
    """The folder of finished chunks, from which an interrupted run resumes.

    A dot begins its name: the host's list of assets leaves out such folders.
    """
    return Path(folder_paths.get_output_directory()) / "longtake" / ".rollouts"


def saved_files(suffix: str) -> list[str]:
    """The files ending with `suffix`, as `NAME [output]`, newest first.

    The search covers the top level of the output and input folders, and everything below their
    folder `longtake`. Broken links and unreadable files are skipped.
    """
    files: list[tuple[float, str]] = []
    for kind, folder in _shared_folders().items():
        below = [folder, *_folders_below(folder / "longtake")]
        for path in (path for place in below for path in place.glob(f"*{suffix}")):
            name = path.relative_to(folder).as_posix()
            with suppress(OSError):
                files.append((path.stat().st_mtime, f"{name} [{kind}]"))
    return [name for _, name in sorted(files, reverse=True)]


def saved_file(name: str) -> Path:
    """The path of a file named by `saved_files`; BadInput for anything outside its folders."""
    plain, _, kind = name.rpartition(" [")
    folder = _shared_folders().get(kind.removesuffix("]"))
    try:
        path = None if folder is None else (folder / plain).resolve()
        exists = path is not None and path.is_file()
    except (OSError, ValueError) as error:  # as of a name that is too long, or has a zero byte
        raise BadInput(f"{excerpt(plain)} cannot be a file's name; choose another file.") from error
    if folder is None or path is None or not path.is_relative_to(folder.resolve()):
        shown = excerpt(plain or name)
        raise BadInput(f"{shown} is not in the output or input folder; choose another file.")
    if not exists:
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise BadInput(f"{path} {problem}; choose another file.")
    return path


def saved_stamp(name: str) -> tuple[int, ...]:
    """Time and size of a file named by `saved_files`; () where it is missing or `name` is empty.

    It raises nothing: else the host notes NaN, which is no JSON, in the prompt that files hold.
    """
    try:
        facts = saved_file(name).stat() if name else None
    except (BadInput, OSError):  # which the node itself says in a sentence
        facts = None
    return () if facts is None else (facts.st_mtime_ns, facts.st_size)


def _folders_below(folder: Path) -> list[Path]:
    """A folder and all folders below it, without the many of the journal."""
    paths: list[Path] = []
    for place, inner, _ in os.walk(folder):
        inner[:] = [name for name in inner if Path(place, name) != rollout_folder()]
        paths.append(Path(place))
    return paths


def file_stamp(
    folder: str, name: str | None, beside: Callable[[Path], Iterable[Path]] = lambda path: ()
) -> Stamp:
    """What changes where a model file is written again, or a shard, or what is read `beside` it.

    The host keeps what a loader returned as long as its widgets stay. It is () where the file is
    missing, which the loader itself says in a sentence, or not known yet.
    """
    if name is None:  # another node gives it
        return ()
    try:
        path = model_file(folder, name)
        return stamp(path, beside(path))
    except (BadInput, OSError, ValueError):  # ValueError: a name with a zero byte
        return ()


def _shared_folders() -> dict[str, Path]:
    return {
        "output": Path(folder_paths.get_output_directory()),
        "input": Path(folder_paths.get_input_directory()),
    }


def model_files(folder: str) -> list[str]:
    """The names of the files in one of the host's model folders."""
    return list(folder_paths.get_filename_list(folder))


def model_file(folder: str, name: str) -> Path:
    """The path of a file named by `model_files`."""
    try:
        return Path(folder_paths.get_full_path_or_raise(folder, name))
    except FileNotFoundError as error:
        raise BadInput(
            f"{name!r} is no longer in the {folder} folder; choose another file."
        ) from error
