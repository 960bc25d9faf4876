"""The Slurm file is valid shell that requeues on the code with which a stopped run ends;
accelerate reads its files.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from ssl_parts.engine.stop import REQUEUE

LAUNCH = Path(__file__).resolve().parents[1] / "launch"


@pytest.mark.parametrize("code", [0, 1, REQUEUE])
def test_the_job_file_requeues_a_stopped_run_only(tmp_path, code):
    """Stand-ins for srun, scontrol and python: what the script makes of Slurm's variables and of
    the exit code.
    """
    shown = '"$RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR $@"'
    stand_ins = {
        "srun": 'shift; SLURM_PROCID=3 SLURM_NTASKS=8 SLURM_LOCALID=1 SLURM_NTASKS_PER_NODE=2 exec "$@"',
        "scontrol": f'echo "$@" >> {tmp_path}/scontrol; echo node1; echo node2',
        "python": f"echo {shown} > {tmp_path}/run; exit {code}",
    }
    for name, script in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NODELIST": "node[1-2]",
    }
    script = LAUNCH / "slurm/pretrain.sbatch"
    done = subprocess.run(
        ["bash", script, "--config-name", "a b", "data.root=x y"], env=environment
    )
    assert done.returncode == code
    assert (
        tmp_path / "run"
    ).read_text() == "3 8 1 2 node1 launch/pretrain.py --config-name a b data.root=x y\n"
    assert ("requeue 17" in (tmp_path / "scontrol").read_text()) == (code == REQUEUE)


def test_slurm_is_told_to_signal_and_to_requeue():
    options = re.findall(
        r"^#SBATCH --(\S+)", (LAUNCH / "slurm/pretrain.sbatch").read_text(), re.MULTILINE
    )
    assert {"signal=USR1@300", "requeue", "open-mode=append"} <= set(options)


@pytest.mark.parametrize(
    "path", sorted((LAUNCH / "accelerate").glob("*.yaml")), ids=lambda path: path.stem
)
def test_accelerate_reads_its_files(path):
    config = load_config_from_file(str(path))
    assert config.num_processes == 8 * config.num_machines
    assert config.mixed_precision == "no"  # run.precision decides
