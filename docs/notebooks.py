"""python docs/notebooks.py [--check]: run the notebooks, two at a time, and keep in each the digest of what was run.

With --check nothing is written: it fails where a notebook raises, or was changed since it was run last.
"""

import hashlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).parents[1] / "notebooks"


def digest(notebook: nbformat.NotebookNode) -> str:
    """The sha256 of the code cells, in order."""
    return hashlib.sha256("\0".join(c.source for c in notebook.cells if c.cell_type == "code").encode()).hexdigest()


def stale(notebook: nbformat.NotebookNode) -> bool:
    """Whether the pictures and numbers in it are of other code than it shows."""
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    ran = notebook.metadata.get("emsiam", {}).get("ran")
    return ran != digest(notebook) or counts != list(range(1, len(counts) + 1))


def run(file: Path, check: bool) -> str:
    """Executes one; what went wrong, or nothing."""
    notebook = nbformat.read(file, as_version=4)
    if check and stale(notebook):
        return f"{file}: was changed since it was run; make notebooks runs it again"
    began = time.perf_counter()
    try:
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": FOLDER}}).execute()
    except CellExecutionError as error:
        return f"{file}: {error}"
    print(f"{file.name} ran in {time.perf_counter() - began:.0f} s", flush=True)
    if not check:
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times
        notebook.metadata["emsiam"] = {"ran": digest(notebook)}
        nbformat.write(notebook, file)
    return ""


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the kernel is this environment's
    with ThreadPoolExecutor(2) as pool:
        wrong = [
            said for said in pool.map(lambda f: run(f, "--check" in sys.argv), sorted(FOLDER.glob("*.ipynb"))) if said
        ]
    sys.exit("\n".join(wrong) or 0)
