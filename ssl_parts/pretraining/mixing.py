"""How much of the trained weights to keep, chosen without labels (train.interpolate=auto).

WiSE-FT (arXiv 2109.01903) mixes initial and trained weights with a share that it picks on labelled
data. There are none here, so the rule is ours:

1. Up to 256 training images, evenly spaced, are seen in two fixed views each. For every share of
   the trained weights in SHARES the mixed encoder gives both views' pooled features.
2. Gain: how well the k-NN graphs of the two views agree (share of each image's ten neighbours that
   it has in both). It grows with features that are steady under the views and still tell images
   apart; a collapsed encoder, whose neighbours are noise, scores low.
3. Harm: as at the end of a run (harm.py), shares whose RankMe falls below 0.7 of the initial
   encoder's, or that keep less than 35 % of its neighbours, are ruled out.
4. The smallest share whose gain is within 2 % of the best that is left wins: nothing known is
   given up without reason.

Shapes: S mixtures, 2 views, N images, D channels.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from ssl_parts.data import Bank, evenly_spaced
from ssl_parts.encoders import Encoder
from ssl_parts.engine.statistics import rank_me
from ssl_parts.engine.teacher import interpolate
from ssl_parts.files import write_atomic
from ssl_parts.pretraining.harm import (
    NEIGHBOURS,
    NEIGHBOURS_KEPT,
    RANK_KEPT,
    compare_neighbours,
)
from ssl_parts.views import ViewsConfig, make_views, plan_views

SHARES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
IMAGES, CHUNK, SEED = 256, 64, 0
CLOSE = 0.98  # of the best gain


@dataclass(frozen=True)
class Mixture:
    """One share of the trained weights: its gain, RankMe and kept neighbours as the module says."""

    share: float
    gain: float
    rank: float
    kept: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name, for JSON."""
        return asdict(self)


def measure_mixtures(
    encoder: Encoder,
    initial: dict[str, Tensor],
    trained: dict[str, Tensor],
    bank: Bank,
    views: ViewsConfig,
) -> list[Mixture]:
    """Measure one Mixture for each of SHARES.

    Side effect: `encoder` ends with the last candidate's weights, which are the trained ones, in
    evaluation mode.

    Args:
        initial, trained: state dicts of the encoder.
    """
    found = []
    features_S2ND = extract_mixtures(encoder, initial, trained, bank, views)
    for share, (one_ND, two_ND) in zip(SHARES, features_S2ND):
        pairs = zip(features_S2ND[0], (one_ND, two_ND))
        kept = [compare_neighbours(a_ND, b_ND, NEIGHBOURS) for a_ND, b_ND in pairs]
        gain = compare_neighbours(one_ND, two_ND, NEIGHBOURS)
        rank = float(rank_me(torch.cat([one_ND, two_ND])))
        found.append(Mixture(share, gain, rank, sum(kept) / 2))
    return found


@torch.inference_mode()
def extract_mixtures(
    encoder: Encoder,
    initial: dict[str, Tensor],
    trained: dict[str, Tensor],
    bank: Bank,
    views: ViewsConfig,
) -> Tensor:
    """Pooled features (S, 2, N, D) of two fixed views of N images, for each of the S mixtures.

    Side effect: as `measure_mixtures`.
    """
    device = next(encoder.parameters()).device
    pieces: list[list[Tensor]] = [[] for _ in SHARES]
    rows_N = torch.from_numpy(evenly_spaced(len(bank), IMAGES))
    for number, rows in enumerate(rows_N.split(CHUNK)):
        plan = plan_views(len(rows), views, SEED, number)
        images_NCHW = make_views(bank.images(rows).to(device), None, plan, views).images_NCHW
        for share, piece in zip(SHARES, pieces):
            encoder.load_state_dict(interpolate(initial, trained, share))
            piece.append(encoder.eval()(images_NCHW).pooled.float().cpu().unflatten(0, (2, -1)))
    return torch.stack([torch.cat(piece, 1) for piece in pieces])


def apply_rule(mixtures: list[Mixture]) -> float:
    """Choose a share by the module's rule.

    Args:
        mixtures: the first one is the initial encoder, which is never ruled out.
    """
    start = mixtures[0]
    sound = [
        m for m in mixtures[1:] if m.rank >= RANK_KEPT * start.rank and m.kept >= NEIGHBOURS_KEPT
    ]
    best = max(m.gain for m in [start, *sound])
    return min(m.share for m in [start, *sound] if m.gain >= CLOSE * best)


def choose_share(
    folder: Path,
    encoder: Encoder,
    initial: dict[str, Tensor],
    trained: dict[str, Tensor],
    bank: Bank,
    views: ViewsConfig,
    accelerator: Accelerator,
) -> float:
    """Choose the share of trained weights, the same on every process.

    Side effects: the figures behind the choice are written to folder/interpolation.json; `encoder`
    as after `measure_mixtures`, on the main process.
    """
    chosen = [0.0]
    if accelerator.is_main_process:
        mixtures = measure_mixtures(encoder, initial, trained, bank, views)
        chosen = [apply_rule(mixtures)]
        table = {"share": chosen[0], "mixtures": [m.as_dict() for m in mixtures]}
        write_atomic(folder / "interpolation.json", json.dumps(table, indent=1))
        print(f"Keeps {chosen[0]:.3g} of the trained weights (train.interpolate=auto)", flush=True)
    return broadcast_object_list(chosen)[0]
