"""An encoder for other projects: timm, torchvision, Hugging Face, ONNX, plain state dict.

    python launch/export.py source=runs/quickstart to=timm,onnx out=exports

`--help` says more. `ssl-parts export` is the same command.
"""

from ssl_parts.commands.main import run

if __name__ == "__main__":
    run("export")
