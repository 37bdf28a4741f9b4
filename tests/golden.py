"""Are the numbers the same bits as before? Golden traces: sha256 of a short run's lines and of all that it ends with.

    python tests/golden.py beside COMMIT   both checkouts run every case, and this one resumes what the other stopped
    python tests/golden.py record          write the digests of this processor type to tests/golden.json

A case is twelve steps with one option changed, on one thread of a CPU. It is trained whole, and again stopped after
seven steps and resumed; both must end with the same bits. Only what users rely on is used here (`emsiam.Config`,
`emsiam.fit`, a run's files), so that one script serves the code of any commit.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__)
RECORD = HERE.with_suffix(".json")
STOP = 7  # steps until a run is stopped: inside an epoch, an alternation, a look
COMMON = {"epochs": 2, "batch_size": 238, "log_every": 1, "eval_every": 9, "diagnose_every": 2}
PLACES = {"device": "cpu", "threads": 1, "quiet": True}
FOLDER = {"dataset": "folder", "data_dir": "{images}", "batch_size": 32}
MODES = {
    mode: {"mode": mode}
    for mode in (
        *("onestep", "multistep", "ema_eta", "expectation"),
        *("byol", "simclr", "moco", "swav", "vicreg", "barlow", "sigreg"),
    )
}
FEW = {  # held by every `make test`, with the modes
    "k": {"mode": "multistep", "k": 5},
    "m": {"mode": "ema_eta", "m": 0.3},
    "bank": {"mode": "ema_eta", "bank": "{bank}", "bank_dtype": "bf16"},
    "eta": {"eta": "{solver}", "n": 3},
    "stop_grad": {"stop_grad": False, "predictor": "none"},
    "symmetry": {"symmetry": "asym2x"},
    "similarity": {"similarity": "cross_entropy"},
    "precision": {"precision": "fp64", "batch_size": 120, "epochs": 1},
    "online_probe": {"online_probe": True},
    "folder": {**FOLDER, "workers": 2},
}
MORE = {
    **{f"k {k}": {"mode": "multistep", "k": k} for k in (1, "epoch")},
    "k bank": {"mode": "ema_eta", "k": 3},
    "k expectation": {"mode": "expectation", "k": 3, "n": 2},
    "n": {"mode": "expectation", "n": 2},
    "bank host": {"mode": "ema_eta", "bank": "host"},
    "eta moving_average": {"eta": "moving_average"},
    **{f"tau {mode}": {"mode": mode, "tau": 0.5} for mode in ("byol", "moco")},
    "tau_schedule": {"mode": "byol", "tau_schedule": "constant"},
    "queue": {"mode": "moco", "queue": 16},
    "shuffle_bn": {"mode": "moco", "shuffle_bn": 3, "batch_size": 240},
    **{f"temperature {mode}": {"mode": mode, "temperature": 0.5} for mode in ("simclr", "moco", "swav")},
    "prototypes": {"mode": "swav", "prototypes": 40},
    "swav no stop-gradient": {"mode": "swav", "stop_grad": False},
    "simclr h stop-gradient": {"mode": "simclr", "stop_grad": True, "predictor": "mlp"},
    "no stop-gradient": {"stop_grad": False},
    "ema_eta mlp": {"mode": "ema_eta", "predictor": "mlp"},
    **{f"predictor {kind}": {"predictor": kind} for kind in ("none", "fixed", "linear", "directpred", "directcopy")},
    "fix_pred_lr": {"fix_pred_lr": False},
    **{f"bn {kind}": {"bn": kind} for kind in ("none", "hidden", "all")},
    "output_affine": {"output_affine": False},
    "asym": {"symmetry": "asym"},
    "mse": {"similarity": "mse"},
    "schedule": {"schedule": "constant"},
    "warmup_epochs": {"warmup_epochs": 1},
    "lr": {"lr": 0.2},
    "wd": {"wd": 0.0},
    "momentum": {"momentum": 0.5},
    "batch_size": {"batch_size": 100},
    "epochs": {"epochs": 3},
    "dim": {"dim": 64},
    "hidden_dim": {"hidden_dim": 64},
    "pred_dim": {"pred_dim": 8},
    "proj_layers": {"proj_layers": 2},
    "seed": {"seed": 1},
    "augment": {"augment": "noise=0.2,scale=0.5:0.9,blur=0.5"},
    "precision bf16": {"precision": "bf16"},
    **{name: {name: value} for name, value in (("knn_k", 5), ("knn_t", 0.5), ("diagnose_every", 1), ("threads", 2))},
    "log_every": {"log_every": 5, "eval_every": 1},
    "images in memory": {**FOLDER, "workers": 0},
    "labels": {**FOLDER, "workers": 0, "labels": False},
    "eta_args": {"mode": "ema_eta", "eta_args": "first=random,target=bank,rows_of=unit"},
    "image_size": {**FOLDER, "workers": 0, "image_size": 12, "augment": "blur=0.5,hue=0.1"},
    "arch": {**FOLDER, "workers": 0, "arch": "resnet18"},
    "stem": {**FOLDER, "workers": 0, "arch": "resnet18", "stem": "imagenet", "image_size": 32},
    "shapes": {"dataset": "shapes", "num_images": 2000, "batch_size": 300, "epochs": 1, "precision": "fp32"},
    "mnist5k": {"dataset": "mnist5k", "batch_size": 600, "epochs": 1, "precision": "fp32"},
    "preset": {
        **FOLDER,
        "preset": "simsiam-imagenet",
        **{"image_size": 16, "arch": "resnet18", "dim": 32, "hidden_dim": 32, "epochs": 2},
    },
}
CASES = MODES | FEW | MORE
SOLVER = """def median(state, F_t, batch, *, n=5):
    eta = F_t(batch.draw(n)).median(0).values
    known = state.get("seen", eta.new_zeros(()))
    return eta.expand(len(batch.trained), -1, -1), {"seen": known + 1}
"""
# of a line of metrics.jsonl, by the beginnings of names; times are not here, and what is measured since is not
MEASURED = ("step", "epoch", "loss", "lr", "z_std", "effective_rank", "participation_ratio", "knn_acc1", "probe_acc1")
MEASURED += ("em_", "eta_gap", "r_", "trace_", "share_", "force_")
KEPT = ("losses", "net", "optimizer", "state", "theta", "online", "online_sgd", "alternation")  # of a checkpoint


def processor() -> str:
    """What decides the bits beside code and options: the processor's type, its vector instructions, and PyTorch."""
    import torch

    known = {}
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    kind = [known[name] for name in ("model name", "cpu family", "model", "stepping") if name in known]
    kind = kind or [platform.processor()]
    vectors = torch.backends.cpu.get_cpu_capability()
    return " ".join([platform.machine(), *kind, vectors, "torch", torch.__version__.partition("+")[0]])


class After:
    """Becomes true when it has been asked so many times: `fit` asks after each step."""

    def __init__(self, steps: int):
        self.left = steps

    def __len__(self) -> int:
        self.left -= 1
        return max(0, 1 - self.left)


def prepare(folder: Path) -> None:
    """Files that cases name: images, a solver, a place for a bank. Once, before processes read them."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(240):
        place = folder / "images" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(10 + i % 3, 12, 3), dtype=np.uint8)).save(place / f"{i}.png")
    (folder / "bank").mkdir(exist_ok=True)
    (folder / "solver.py").write_text(SOLVER)


def files_of(folder: Path) -> dict[str, str]:
    """What stands for them in CASES, and where they are."""
    return {
        "{images}": str(folder / "images"),
        "{bank}": str(folder / "bank"),
        "{solver}": f"{folder / 'solver.py'}:median",
    }


def train(options: dict[str, Any], out: Path, stop: Any = ()) -> None:
    """A run, or what is left of one that was stopped. Pictures are left out: they are not numbers."""
    import emsiam

    with mock.patch("seaborn.lineplot"), mock.patch("matplotlib.figure.Figure.savefig"):
        emsiam.fit(emsiam.Config(**options, out=str(out)), stop=stop)


def update(digest: Any, value: Any, name: str = "") -> None:
    """Feed every tensor and number of a nested structure, by name, to a digest."""
    import torch

    if isinstance(value, dict):
        for key in sorted(value, key=str):
            update(digest, value[key], f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            update(digest, item, f"{name}.{i}")
    elif isinstance(value, torch.Tensor):
        digest.update(f"{name} {value.dtype} {list(value.shape)} ".encode())
        digest.update(value.flatten().contiguous().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    else:
        digest.update(f"{name} {value!r} ".encode())


def digests(out: Path) -> dict[str, str]:
    """The digests of a run's lines, of its snapshots, and of the tensors of its last checkpoint."""
    import numpy as np
    import torch

    lines, state = hashlib.sha256(), hashlib.sha256()
    for text in (out / "metrics.jsonl").read_text().splitlines():
        update(lines, {name: value for name, value in json.loads(text).items() if name.startswith(MEASURED)})
    saved = torch.load(out / "checkpoints" / "last.pt", map_location="cpu", weights_only=True)
    for file in sorted((out / "snapshots").glob("*.npy"), key=lambda file: int(file.stem)):
        saved[f"snapshot {file.stem}"] = torch.from_numpy(np.load(file))
    update(state, {name: x for name, x in saved.items() if name in KEPT or name.startswith("snapshot ")})
    return {"lines": lines.hexdigest()[:16], "state": state.hexdigest()[:16]}


def run(name: str, folder: Path, *, resumed: bool, begun: Path | None = None) -> dict[str, dict[str, str]]:
    """{way: digests} of a case: `whole`; `resumed` after this code stopped it; `continued` where another's code did.

    begun: the folder in which that other code has left its stopped runs, see `folder/NAME/stopped`.
    """
    import torch

    files = files_of(folder)
    options = {n: files.get(v, v) if isinstance(v, str) else v for n, v in (COMMON | PLACES | CASES[name]).items()}
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    mine = folder / name
    ways = {}

    def go_on(stopped: Path, way: str) -> None:
        if int(os.environ.get("RANK", 0)) == 0:
            shutil.copytree(stopped, mine / way)
        if ranks > 1:
            torch.distributed.barrier()
        eta = json.loads((stopped / "config.json").read_text()).get("eta")
        code = {"eta": eta} if eta else {}  # which runs only where it is named
        train({"resume": True, "quiet": True} | code, mine / way)
        ways[way] = digests(mine / way)

    train(options, mine / "whole")
    ways["whole"] = digests(mine / "whole")
    if resumed:
        train(options, mine / "stopped", After(STOP if ranks == 1 else 1))  # ranks ask each other every tenth step
        go_on(mine / "stopped", "resumed")
    if begun is not None:
        go_on(begun / name / "stopped", "continued")
    return ways


def child(names: list[str], folder: str, out: str, resumed: bool, begun: str | None) -> None:
    """What a checkout's process does: its cases one after the other, all with the processes that torchrun started."""
    import torch.distributed

    if several := "WORLD_SIZE" in os.environ:
        torch.distributed.init_process_group("gloo")
    from emsiam import Config

    names = [name for name in names if CASES[name].keys() <= Config.__dataclass_fields__.keys()]  # of older code
    runs = {name: run(name, Path(folder), resumed=resumed, begun=Path(begun) if begun else None) for name in names}
    if int(os.environ.get("RANK", 0)) == 0:
        Path(out).write_text(json.dumps(runs, indent=1))
    if several:
        torch.distributed.destroy_process_group()


def start(
    code: Path,
    names: list[str],
    folder: Path,
    *,
    resumed: bool = True,
    begun: Path | None = None,
    ranks: int = 1,
) -> dict[str, dict[str, dict[str, str]]]:
    """{case: {way: digests}} by the code of a checkout, in processes of its own."""
    out = folder / "digests.json"
    prepare(folder)
    request = {"names": names, "folder": str(folder), "out": str(out), "resumed": resumed}
    request["begun"] = None if begun is None else str(begun)
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, str(HERE), "child", json.dumps(request)],
        cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{code}: {done.stderr[-3000:]}")
    return json.loads(out.read_text())


def beside(base: str, names: list[str], folder: Path, ranks: int = 1) -> list[str]:
    """What differs between this checkout and a commit, a line each. Both train all cases, at the same time."""
    root, mine, other = HERE.parents[1], folder / "mine", folder / "checkout"
    shutil.copytree(root / "emsiam", mine / "emsiam")  # as it is now, whatever is edited while this runs
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(other), base], cwd=root, check=True)
    try:
        with ThreadPoolExecutor(2) as pool:
            theirs = pool.submit(start, other, names, folder / "base", ranks=ranks)
            ours = pool.submit(start, mine, names, folder / "here", ranks=ranks)
            a, b = theirs.result(), ours.result()
        continued = start(mine, list(a), folder / "on", resumed=False, begun=folder / "base", ranks=ranks)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(other)], cwd=root, check=True)
    differences = []
    for name in names:
        runs = {f"{base} {way}": x for way, x in a.get(name, {}).items()}  # which has no options that are newer
        runs |= {f"here {way}": x for way, x in b[name].items()}
        if name in a:
            runs[f"{base} stopped, here resumed"] = continued[name]["continued"]
        reference, first = next(iter(runs.items()))
        for way, digest in runs.items():
            parts = [part for part in first if digest[part] != first[part]]
            differences += [f"{name}, {way}: {' and '.join(parts)} differ from {reference}"] if parts else []
    return differences


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/golden.py", description=__doc__.partition("\n")[0])
    parser.add_argument("task", choices=("beside", "record", "child"))
    parser.add_argument("base", nargs="?", help="beside: a commit")
    parser.add_argument("--ranks", type=int, default=1, help="processes that train together")
    parser.add_argument("--few", action="store_true", help="the modes and the ten options of make test alone")
    given = parser.parse_args()
    if given.task == "child":
        child(**json.loads(given.base))
        return 0
    names = list(MODES | FEW if given.few else CASES)
    with tempfile.TemporaryDirectory() as folder:
        if given.task == "beside":
            different = beside(given.base, names, Path(folder), given.ranks)
            print(*different, f"{len(names)} cases, {len(different)} differences", sep="\n")
            return bool(different)
        recorded = start(HERE.parents[1], list(MODES | FEW), Path(folder), resumed=False)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record[processor()] = {name: runs["whole"] for name, runs in recorded.items()}
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(f"{RECORD}: {processor()}, {len(recorded)} cases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
