"""Which versions are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

PACKAGE = "uniad-toolkit"
"""The toolkit itself."""


def installed_version(package: str) -> str | None:
    """The version of a package; None if none is installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def package_version(package: str) -> str:
    """Name and version of a package, for people to read."""
    return f"{package} {installed_version(package) or '(source tree)'}"
