"""What a command says where a package that Longtake needs is missing or cannot be loaded.

The command line loads them all at once, so without this the doctor itself would end in a traceback.
"""

from __future__ import annotations

import importlib.util

from ..pip_command import pip_install

PACKAGES = {  # modules, and packages where these are called otherwise; as in pyproject.toml
    "torch": "torch",
    "numpy": "numpy",
    "safetensors": "safetensors",
    "einops": "einops",
    "av": "av",
    "PIL": "pillow",
    "click": "click",
    "rich": "rich",
    "aiohttp": "aiohttp",
}


def describe_lack(error: Exception) -> str | None:
    """What to install or repair after a failed import, one sentence; None if it was our own code.

    All missing packages are named at once, else the one that is there and cannot be loaded.
    """
    missing = [package for name, package in PACKAGES.items() if not _is_there(name)]
    if missing:
        names = ", ".join(missing)
        return (
            f"Longtake needs {names}, which this Python lacks; run: "
            f"{pip_install(' '.join(missing))}"
        )
    package = _broken_package(error)
    if package is None:
        return None
    # Plain pip may replace a torch for this GPU by another build.
    remedy = (
        "reinstall it as PyTorch's install page says"
        if package == "torch"
        else f"run: {pip_install(f'--force-reinstall --no-deps {package}')}"
    )
    reason = " ".join(str(error).split())
    return f"{package} is installed but cannot be loaded ({reason}); {remedy}"


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _broken_package(error: Exception) -> str | None:
    """The package whose own code failed, innermost of the traceback, or that lacks a name."""
    lacking = str(getattr(error, "name", None)).partition(".")[0]
    package, trace = PACKAGES.get(lacking), error.__traceback__
    while trace is not None:
        root = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        package, trace = PACKAGES.get(root, package), trace.tb_next
    return package
