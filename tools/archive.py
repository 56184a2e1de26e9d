"""Build the archive for the ComfyUI registry: files tracked by git, minus those in .comfyignore.

    python -m longtake.tools.archive longtake.zip

takes the same files as `comfy node publish`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

from ..machine.temporary_files import rewriting

IGNORE = "--exclude-from=.comfyignore"
ROOT = Path(__file__).resolve().parents[1]


def members(*, untracked: bool = False) -> list[str]:
    """Return the archive's paths relative to the repository root; `untracked` adds new files."""
    left_out = set(_git("ls-files", "--cached", "--ignored", IGNORE))
    index_files = [path for path in _git("ls-files", "--cached") if path not in left_out]
    more = _git("ls-files", "--others", "--exclude-standard", IGNORE) if untracked else []
    return [path for path in index_files + more if (ROOT / path).is_file()]


def write(target: Path) -> int:
    """Write the archive and return its size in bytes."""
    with (
        rewriting(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for path in members():
            archive.write(ROOT / path, path)
    return target.stat().st_size


def _git(*command: str) -> list[str]:
    done = subprocess.run(
        ["git", *command, "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    return [path for path in done.stdout.split("\0") if path]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the archive for the ComfyUI registry.")
    parser.add_argument("target", type=Path, help="the zip file to write")
    target = parser.parse_args().target
    size = write(target)
    sys.stdout.write(f"{target}: {len(members())} files, {size / 2**20:.1f} MB\n")
