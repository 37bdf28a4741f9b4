"""Are a run's files as they were written? SHA256SUMS says, in the format of `sha256sum -c SHA256SUMS`."""

import hashlib
import re
from pathlib import Path

from ..errors import ConfigError
from ..files import replacing

FILE = "SHA256SUMS"


class Sums:
    """The sums of the files in a run's directory, which grow with it; older runs have none."""

    def __init__(self, path: Path, *, new: bool = False):
        """new: of a directory that is filled anew."""
        self.path = path
        self.known: dict[str, str] = {}
        if not new and (path / FILE).exists():
            lines = (path / FILE).read_text(errors="replace").splitlines()
            matches = [re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in lines]
            if None in matches:
                raise ConfigError(f"{path / FILE}: is damaged")
            self.known = {m[2]: m[1] for m in matches if m}

    def add(self, *names: str) -> None:
        """Record the checksums of files as they are now."""
        self.known |= {name: hashlib.sha256((self.path / name).read_bytes()).hexdigest() for name in names}
        self._write()

    def drop(self, *names: str) -> None:
        """Forget the checksums of files that will change."""
        self.known = {name: digest for name, digest in self.known.items() if name not in names}
        self._write()

    def _write(self) -> None:
        with replacing(self.path / FILE) as new:
            new.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(self.known.items())))

    def read(self, name: str) -> bytes:
        """A file's content. Raises FileNotFoundError; ConfigError where it is not what was written."""
        content = (self.path / name).read_bytes()
        if self.known.get(name, digest := hashlib.sha256(content).hexdigest()) != digest:
            raise ConfigError(f"{self.path / name}: is damaged or was changed, its sum is not that in {FILE}")
        return content
