"""python -m emsiam.diagnose RUN|CHECKPOINT|EMBEDDINGS.npy|.npz: is it collapse? A verdict, its reason, what to try."""

import sys
from pathlib import Path

from .config import Parser, add_images, add_network, command
from .config.rules import PATH
from .errors import BadImage, ConfigError, check_alone, check_folder, tell

STATUS = {"healthy": 0, "undecided": 11, "too early to say": 11}
NOT_HEALTHY = 10
EPILOG = f"status 0: healthy; {NOT_HEALTHY}: not; {STATUS['undecided']}: undecided, or too early to say; 2: wrong input"


@command
def main(arguments: list[str]) -> int:
    """The command, with a status by what is found, see EPILOG."""
    parser = Parser(prog="python -m emsiam.diagnose", description=__doc__, epilog=EPILOG)
    parser.add_argument(
        "what",
        metavar="RUN|CHECKPOINT|EMBEDDINGS",
        help="a run's directory; a file of weights; or .npy, .npz, .safetensors, .pt with z, [N, d] or [views, N, d], "
        "beside it p, features, labels",
    )
    add_images(parser, "--dataset", "images to show to a network")
    add_network(parser)
    parser.add_argument(
        "--layout",
        choices=("views", "tokens"),
        help="meaning of a 3-D array: views × images × d, or images × tokens × d. Default: guessed from its shape.",
    )
    parser.add_argument("--json", type=PATH.of_argument, metavar="FILE", help="all of it, in plain values")
    parser.add_argument("--html", type=PATH.of_argument, metavar="FILE", help="a page with pictures, that stands alone")
    try:
        given = parser.parse_args(arguments)
        check_alone()
        check_folder("json", given.json)
        check_folder("html", given.html)
        written = [Path(file).resolve() for file in (given.json, given.html, given.what) if file]
        if len(set(written)) < len(written):
            raise ConfigError("--json, --html: two of these files are one; allowed are files of their own")
        from .doctor.examine import examine
        from .files import replacing, write_json

        of_file = {
            name: value
            for name in ("arch", "weights", "stem_padding", "dataset", "data_dir", "download", "image_size")
            if (value := getattr(given, name))
        }
        found = examine(given.what, layout=given.layout, **of_file)
        if given.json:
            write_json(Path(given.json), found.to_dict(), indent=1)
        if given.html:
            with replacing(Path(given.html)) as new:
                new.write_text(found.html(), encoding="utf-8")
    except (ConfigError, BadImage, OSError) as error:
        tell("emsiam.diagnose", error)
        return 2
    print(found)
    return STATUS.get(found.verdict, NOT_HEALTHY)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
