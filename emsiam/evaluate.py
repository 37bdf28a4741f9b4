"""python -m emsiam.evaluate: how good are the features of a run, or of anybody's checkpoint?"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from . import names
from .config import Parser
from .config.rules import real, whole
from .errors import BadImage, ConfigError, check_folder, given_flag, one_line
from .files import write_json

READS = {"linear": ("protocol", "epochs"), "knn": ("knn_k", "knn_t"), "episodes": ("ways", "shots")}


def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input."""
    try:
        given = parser().parse_args(arguments)
        check_folder("json", given.json)
        found = evaluate(**{name: value for name, value in vars(given).items() if name != "json"})
        if given.json:
            write_json(Path(given.json), found)
    except (ConfigError, BadImage, OSError, ValueError) as error:
        print(f"emsiam.evaluate: {one_line(error)}", file=sys.stderr)
        return 2
    print(report(found))
    return 0


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m emsiam.evaluate", description=__doc__)
    p.add_argument(
        "task",
        choices=names.TASKS,
        help="; ".join(f"{name}: {what}" for name, what in names.TASKS.items()),
    )
    p.add_argument("what", metavar="RUN|CHECKPOINT", help="a run's directory, or a file")
    p.add_argument("--arch", help="network of a file that does not say, such as resnet50")
    p.add_argument("--eval-dataset", choices=names.DATASETS, help="images to evaluate on (the run's)")
    p.add_argument("--data-dir", help="where they are")
    p.add_argument("--download", action="store_true", help="fetch a torchvision data set there")
    p.add_argument(
        "--image-size", type=whole(8, 4096).of_argument, help="others' networks: side in pixels of what they see"
    )
    p.add_argument(
        "--protocol",
        choices=names.PROTOCOLS,
        default=names.PROTOCOLS[0],
        help="linear: exact (L-BFGS on features), or the paper's lars or sgd",
    )
    p.add_argument("--epochs", type=whole(1).of_argument, help="linear lars and sgd: other than 90")
    p.add_argument("--knn-k", type=whole(1).of_argument, default=20, help="knn: neighbours (20)")
    p.add_argument("--knn-t", type=real(0, above=True).of_argument, default=0.1, help="knn: temperature (0.1)")
    p.add_argument("--ways", type=whole(2).of_argument, default=5, help="episodes: classes (5)")
    p.add_argument("--shots", type=whole(1).of_argument, default=1, help="episodes: images of each (1)")
    p.add_argument("--seed", type=whole(0, 2**32 - 1).of_argument, default=0, help="of what is drawn (0)")
    p.add_argument("--json", metavar="FILE", help="write the result there")
    return p


def evaluate(task: str, what: str, **options: Any) -> dict[str, Any]:
    """The result of a task as a dictionary; options as on the command line: `knn_k=5`.

    Raises ConfigError, BadImage, ValueError.
    """
    p = parser()
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    o = vars(p.parse_args([task, what, *(given_flag(*item).replace(" ", "=", 1) for item in given.items())]))
    for reader, read in READS.items():
        for name in read:
            if reader != task and o[name] != p.get_default(name):
                raise ConfigError(f"{given_flag(name, o[name])}: is not used by {task}, only by {reader}")
    if o["protocol"] == p.get_default("protocol") and o["epochs"]:
        raise ConfigError(f"--epochs {o['epochs']}: is not used by --protocol {o['protocol']}")
    from . import evaluation

    return evaluation.evaluate(task, what, o)


def report(found: dict[str, Any]) -> str:
    """A result in a few lines."""
    e = found["encoder"]
    lines = [
        f"{found['task']} of {e['arch']} ({e['kind']}) on {found['dataset']}, {found['test_images']:,} test images"
    ]
    names = {"acc1": "top-1", "acc1_best": "best over epochs", "acc5": "top-5", "roc_auc": "ROC-AUC"}
    shown = [f"{said} {found[name]:.3f}" for name, said in names.items() if math.isfinite(found.get(name, math.nan))]
    if "half_interval" in found:
        shown[0] += f" ± {found['half_interval']:.3f}"
    lines.append("  " + "   ".join(shown))
    if "per_class" in found and len(found["per_class"]) <= 20:
        lines.append("  per class " + " ".join(f"{x:.2f}" for x in found["per_class"]))
    return "\n".join([*lines, f"  {found['settings']}", f"  {found['features']}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
