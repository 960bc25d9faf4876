"""Is the machine ready, and is the data what it should be? Versions, devices, two processes that
talk to each other; counts against the published ones, what is missing, what does not decode;
where the time of a training step goes.

    python launch/doctor.py --machine

`--help` says more. `ssl-parts doctor` is the same command.
"""

from ssl_parts.commands.main import run

if __name__ == "__main__":
    run("doctor")
