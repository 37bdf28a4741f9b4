"""python tests/try_wheel.py FILE.whl: does a wheel work outside the repository? It trains, examines and draws there.

It is unpacked into an empty folder, beside the packages of this Python.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CODE = """
import pathlib, emsiam, torch
assert pathlib.Path(emsiam.__file__).is_relative_to(pathlib.Path.cwd()), emsiam.__file__
run = emsiam.fit(emsiam.Config(epochs=1, batch_size=256, threads=1, quiet=True, out="run"))
print(emsiam.examine(run))
assert "healthy" in emsiam.examine(torch.randn(200, 16)).html()
"""


def main(wheel: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(wheel).extractall(folder)
        env = os.environ | {"PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
        for command in (["-c", CODE], ["-m", "emsiam.compare", "--help"], ["-m", "emsiam", "--help"]):
            done = subprocess.run([sys.executable, "-P", *command], cwd=folder, env=env, capture_output=True, text=True)
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                return 1
    print(f"{wheel.name} works outside the repository")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
