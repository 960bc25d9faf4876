"""What an encoder sees in an image or a folder: parts, principal components and attention, as one
PNG.

    python launch/show.py image=bird.jpg encoder=runs/quickstart

`--help` says more. `ssl-parts show` is the same command.
"""

from ssl_parts.commands.main import run

if __name__ == "__main__":
    run("show")
