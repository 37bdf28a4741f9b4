"""python docs/release.py VERSION: what the changelog says of a version.

The package and CITATION.cff must have the same one.
"""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def section(text: str, version: str) -> str:
    """What a changelog says of a version. Raises ValueError where it says nothing."""
    found = re.search(rf"^## \[{re.escape(version)}\].*?\n(.*?)(?=^## \[|\Z)", text, re.DOTALL | re.MULTILINE)
    if not found or not found[1].strip():
        raise ValueError(f"CHANGELOG.md says nothing of {version}")
    return found[1].strip()


def check(version: str) -> None:
    """Raises ValueError where a file has another version."""
    package = re.search(r'^__version__ = "(.*)"$', (ROOT / "emsiam" / "__init__.py").read_text(), re.MULTILINE)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    for file, found in {"emsiam/__init__.py": package[1] if package else "", "CITATION.cff": cited}.items():
        if found != version:
            raise ValueError(f"{file} has version {found}, the release {version}")


if __name__ == "__main__":
    try:
        check(sys.argv[1])
        print(section((ROOT / "CHANGELOG.md").read_text(), sys.argv[1]))
    except (IndexError, ValueError) as error:
        sys.exit(f"release: {error if sys.argv[1:] else 'python docs/release.py VERSION'}")
