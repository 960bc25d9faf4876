"""What each command is called, what it does, and where its schema and its work are.

Imports no torch. `launch/NAME.py` and `ssl-parts NAME` are the same commands.
"""

import argparse
from pathlib import Path

from ssl_parts.commands.command import Command

PRETRAIN = """\
Part-aware self-supervised pretraining: discover parts, train, repeat, evaluate, export.

    accelerate launch launch/pretrain.py     # the quickstart: drawn birds, five minutes
    accelerate launch launch/pretrain.py data=cub data.root=DIR encoder=mobilenetv2_100 \\
        encoder.weights=FILE
    accelerate launch launch/pretrain.py --config-name folder data.root=DIR
    accelerate launch launch/pretrain.py --config-name particle_r50_cub data.root=DIR \\
        encoder.weights=FILE

Killed or stopped, the same command goes on where it was.
"""

RUNS = """\
The runs below a folder, the last changed one first: state, time, result.

    python launch/runs.py
    python launch/runs.py runs/mine_seeds
"""

COMPARE = """\
The table that says what PARTICLE gained: base, control and result over several seeds, with mean
and spread.

    python launch/compare.py --seeds 0 1 2
    python launch/compare.py --seeds 0 1 2 3 --jobs 2
    python launch/compare.py --arms instance instance_views detcon one_round
    python launch/compare.py run.name=cub data=cub data.root=DIR encoder=mobilenetv2_100 \\
        encoder.weights=FILE

Arms: instance (contrast of whole images; the default), instance_views (the same with PARTICLE's
exchanged backgrounds), simclr, moco, byol, dino, detcon (on Felzenszwalb masks), one_round
(PARTICLE without a second discovery), distill_random, distill_corners, distill_none (the run's
distillation towards random boxes, corner squares, or image and flip alone). All start from the
same base and take as many steps as all rounds together, with the same learning rate.

Each seed is a whole run (another base, other batches, other label draws) in runs/NAME/seed_S and
is continued where it stopped. With --jobs, so many seeds run at once, each in a process of its
own that shares the cores (or the GPU) and writes to runs/NAME/seed_S.log. Writes
runs/NAME/table.md, table.png and results.json.
"""

DISCOVER = """\
Find the parts of every image: ids, a contact sheet and statistics, without training anything.

    python launch/discover.py data.root=DIR encoder=mobilenetv2_100 encoder.weights=FILE
    python launch/discover.py data=cub data.root=DIR encoder.weights=FILE parts=dataset \\
        parts.k=16 run.name=cub_parts
    python launch/discover.py ... run.png=true      # also one palette PNG per image
    python launch/discover.py ... run.fitted=runs/cub_parts/parts data.split=test
                                                    # the same parts in other images
    torchrun --nproc_per_node 2 launch/discover.py ...
                                                    # two processes share the images

Killed or stopped, the same command goes on where it was. Ids: runs/NAME/parts (`PartStore.open`),
pictures: runs/NAME/parts.png, numbers: runs/NAME/results.json.
"""

EVALUATE = """\
One encoder, one data set, one protocol of evaluation/PROTOCOLS.md: a table, and results.json
beside it.

    python launch/evaluate.py protocol=linear data=cub data.root=DIR encoder=resnet50 \\
        encoder.weights=FILE
    python launch/evaluate.py protocol=parts data=carparts data.root=DIR \\
        run.name="base + PARTICLE" encoder.weights=FILE
    python launch/evaluate.py protocol=discovery protocol.run=runs/quickstart
    python launch/evaluate.py --show-config protocol=knn
"""

FINETUNE = """\
Supervised training with one of the fine-grained heads: linear, tdsa, coarse2fine, scrim, upm.

    accelerate launch launch/finetune.py head=tdsa
    python launch/finetune.py head=scrim data=cub data.root=DIR encoder=mobilenetv2_100 \\
        encoder.weights=FILE
    python launch/finetune.py head=linear train.frozen=true \\
        encoder.weights=runs/quickstart run.name=probe

Writes runs/NAME/: results.json (accuracy on all test images, overlap of attention with boxes and
parts), looks.png, head.safetensors. Killed or stopped, the same command goes on where it was.
"""

HEADS = """\
The table of supervised heads: each against plain fine-tuning and the linear probe, over seeds; or
ablations.

    python launch/heads.py --seeds 0 1 2                             the methods on drawn \\
        birds at 96 px
    python launch/heads.py --seeds 0 1 2 --arms ablations            each method whole, \\
        then without one thing at a time
    python launch/heads.py --seeds 0 1 2 --config-name cub10 data.root=DIR encoder.weights=FILE

Every arm and seed is a run of its own in runs/NAME/ARM/seed_S; finished ones are not done again,
a killed one goes on where it was. Writes runs/NAME/table.md and results.json after each seed.
"""

EXPORT = """\
An encoder for other projects: timm, torchvision, Hugging Face, ONNX, plain state dict.

    python launch/export.py source=runs/quickstart to=timm,onnx out=exports
    python launch/export.py source=runs/quickstart which=teacher to=state_dict out=teacher
    python launch/export.py source=detconb.npy name=resnet50 to=torchvision \\
        out=detcon_torchvision
    python launch/export.py source=runs/quickstart to=hf out=bird licence=apache-2.0 \\
        push=USER/NAME

One format is written into out=DIR, several into DIR/FORMAT. Each is opened again and compared
with the encoder before it takes its name. Keys: source to out name which image_size parts licence
push private.
"""

SHOW = """\
What an encoder sees in an image or a folder: parts, principal components and attention, as one
PNG.

    python launch/show.py image=bird.jpg encoder=runs/quickstart
    python launch/show.py image=DIR encoder=runs/quickstart/export k=12 out=shown.png
    python launch/show.py image=bird.jpg encoder=vit_small_patch14_dinov2 weights=FILE

encoder= is a run, an export or a timm name. A run shows its own parts; k= finds that many in
these images alone.
"""

REPORT = """\
report.html of one run or several; with several also a page and a table that compare them.

    python launch/report.py runs/quickstart
    python launch/report.py runs/* --out comparison.html

Works on a run that is still going on. A folder of launch/compare.py stands for all its seeds.
"""

DOCTOR = """\
Is the machine ready, and is the data what it should be? Versions, devices, two processes that
talk to each other; counts against the published ones, what is missing, what does not decode;
where the time of a training step goes.

    python launch/doctor.py --machine                                   # no data is looked at
    python launch/doctor.py --speed data=cub data.root=DIR encoder=resnet50   # loading, \\
        views and step by themselves
    python launch/doctor.py data=cub data.root=DIR
    python launch/doctor.py data=folder data.root=DIR --decode          # decode every image
    python launch/doctor.py data=carparts data.root=DIR --sheet parts.png

Ends with status 1 where something is missing or damaged.
"""


def compare_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `compare`."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--jobs", type=int, default=1, help="seeds that run at once (default: 1)")
    parser.add_argument(
        "--arms",
        nargs="*",
        metavar="ARM",
        help="beside base and PARTICLE; default: those of the recipe",
    )


def heads_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `heads`."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument(
        "--arms",
        nargs="+",
        default=["methods"],
        help="methods, ablations, or any of their names (docs/heads.md lists them)",
    )


def report_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `report`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("comparison.html"),
        help="page of several runs (default: %(default)s)",
    )


def runs_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `runs`."""
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("runs"), help="default: %(default)s"
    )


def doctor_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `doctor`."""
    parser.add_argument("--machine", action="store_true", help="look at the machine only")
    parser.add_argument(
        "--speed",
        action="store_true",
        help="time loading, views and step of training on the data",
    )
    parser.add_argument(
        "--decode", action="store_true", help="decode every image and read its annotations"
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="write a contact sheet of 24 images with annotations",
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="decoding threads (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of results.json; nothing is written without"
    )


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "pretrain",
            PRETRAIN,
            "ssl_parts.commands.acts:pretrain",
            "ssl_parts.recipes.load:compose_recipe",
            recipe="quickstart",
        ),
        Command(
            "compare",
            COMPARE,
            "ssl_parts.commands.acts:compare",
            "ssl_parts.recipes.load:compose_recipe",
            recipe="quickstart",
            options=compare_options,
        ),
        Command(
            "discover",
            DISCOVER,
            "ssl_parts.commands.acts:discover",
            "ssl_parts.recipes.load:compose_discovery",
            recipe="default",
        ),
        Command(
            "evaluate",
            EVALUATE,
            "ssl_parts.commands.acts:evaluate",
            "ssl_parts.recipes.load:compose_evaluation",
            recipe="default",
        ),
        Command(
            "finetune",
            FINETUNE,
            "ssl_parts.commands.acts:finetune",
            "evaluation.finetuning.compose:compose_finetuning",
            recipe="default",
        ),
        Command(
            "heads",
            HEADS,
            "ssl_parts.commands.acts:heads",
            "evaluation.finetuning.compose:compose_finetuning",
            recipe="default",
            options=heads_options,
        ),
        Command(
            "export",
            EXPORT,
            "ssl_parts.commands.acts:export",
            "ssl_parts.export.config:compose_export",
        ),
        Command(
            "show", SHOW, "ssl_parts.commands.acts:show", "ssl_parts.recipes.load:compose_show"
        ),
        Command("runs", RUNS, "ssl_parts.commands.acts:runs", options=runs_options),
        Command("report", REPORT, "ssl_parts.commands.acts:report", options=report_options),
        Command(
            "doctor",
            DOCTOR,
            "ssl_parts.commands.acts:doctor",
            "ssl_parts.recipes.load:compose_recipe",
            recipe="quickstart",
            options=doctor_options,
        ),
    )
}
