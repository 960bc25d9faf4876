"""What an encoder sees in an image or a folder: parts, principal components and attention, as one
PNG.

    python launch/show.py image=bird.jpg encoder=runs/quickstart
    python launch/show.py image=DIR encoder=runs/quickstart/export k=12 out=shown.png
    python launch/show.py image=bird.jpg encoder=vit_small_patch14_dinov2 weights=FILE

encoder= is a run, an export or a timm name. A run shows its own parts; k= finds that many in these
images alone.
"""

import argparse
import sys

from ssl_parts.errors import SslPartsError
from ssl_parts.jobs.show import parse, show


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="key=value",
        help="image, encoder, weights, out, k, size, fit, limit, side",
    )
    try:
        print(f"Shown: {show(parse(parser.parse_args().words))}")
    except SslPartsError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
