"""An encoder for other projects: timm, torchvision, Hugging Face, ONNX, plain state dict.

    python launch/export.py source=runs/quickstart to=timm,onnx out=exports
    python launch/export.py source=runs/quickstart which=teacher to=state_dict out=teacher
    python launch/export.py source=detconb.npy name=resnet50 to=torchvision out=detcon_torchvision
    python launch/export.py source=runs/quickstart to=hf out=bird licence=apache-2.0 push=USER/NAME

One format is written into out=DIR, several into DIR/FORMAT. Each is opened again and compared with
the encoder before it takes its name. Keys: source to out name which image_size parts licence push
private.
"""

import argparse
import logging
import sys

from ssl_parts.errors import SslPartsError
from ssl_parts.export import parse, run_export


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="+", metavar="key=value")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        print(f"Results: {run_export(parse(parser.parse_args().settings))}")
    except SslPartsError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
