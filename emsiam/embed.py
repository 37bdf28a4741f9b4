"""python -m emsiam.embed RUN|CHECKPOINT --out z.npz: features, z and p of images, with labels and ids."""

import sys
from pathlib import Path

from .config import Parser, add_images, add_network, command
from .config.rules import PATH
from .errors import BadImage, ConfigError, check_folder, speaks, tell


@command
def main(arguments: list[str]) -> int:
    """The command. Status 0 done, 2 wrong input."""
    parser = Parser(prog="python -m emsiam.embed", description=__doc__)
    parser.add_argument(
        "what", metavar="RUN|CHECKPOINT", help="a run's directory, or a file; others' have features only"
    )
    add_images(parser, "--dataset", "images to embed")
    add_network(parser)
    parser.add_argument("--out", type=PATH.of_argument, required=True, metavar="FILE", help="such as z.npz")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    try:
        given = parser.parse_args(arguments)
        check_folder("out", given.out)
        from .evaluation.backbones import WhichNetwork, load_backbone
        from .evaluation.embeddings import write
        from .evaluation.features import WhichImages, prepared
        from .processor import best
        from .ranks import check_told, together

        with together(best()):
            check_told(vars(given))
            encoder = load_backbone(given.what, WhichNetwork(given.arch, given.weights, given.stem_padding))
            asked = WhichImages(given.dataset, given.data_dir, given.download, given.image_size)
            encoder, data, shown, _ = prepared(encoder, asked)
            for note in data.notes if speaks() else ():
                print(f"note: {note}", file=sys.stderr)
            shapes = write(encoder, data, Path(given.out), quiet=given.quiet)
    except (ConfigError, BadImage, OSError) as error:
        tell("emsiam.embed", error)
        return 2
    if not speaks():
        return 0
    print(f"{given.out}: {', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())}")
    print(f"  {data.name}, images {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
