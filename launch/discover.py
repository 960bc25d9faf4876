"""Find the parts of every image: ids, a contact sheet and statistics, without training anything.

    python launch/discover.py data.root=DIR encoder=mobilenetv2_100 encoder.weights=FILE

`--help` says more. `ssl-parts discover` is the same command.
"""

from ssl_parts.commands.main import run

if __name__ == "__main__":
    run("discover")
