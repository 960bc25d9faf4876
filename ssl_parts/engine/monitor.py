"""Watching a run: metrics.jsonl, trackers, collapse, and the things that stop a run with a clear
word.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ssl_parts.errors import TrainingError
from ssl_parts.files import write_atomic


def rank_me(features_ND: Tensor, eps: float = 1e-7) -> Tensor:
    """Effective rank: exp of the entropy of the normalised singular values (RankMe, arXiv
    2210.02885).
    """
    singular = torch.linalg.svdvals(features_ND.float())
    p = singular / singular.sum().clamp(min=eps) + eps
    return torch.exp(-(p * p.log()).sum())


def feature_std(features_ND: Tensor) -> Tensor:
    """Mean standard deviation of L2-normalised features, times sqrt(D): 1 is spread out, 0 is
    collapsed.
    """
    unit_ND = torch.nn.functional.normalize(features_ND.float(), dim=1)
    return unit_ND.std(0).mean() * features_ND.shape[1] ** 0.5


def part_entropy(ids_NM: Tensor, valid_NM: Tensor, k: int) -> Tensor:
    """Entropy of the sampled part ids over log k: 1 is even use of all k, 0 a single part."""
    counts_K = torch.zeros(k, device=ids_NM.device).index_add_(
        0, ids_NM.flatten(), valid_NM.flatten().float()
    )
    p_K = counts_K / counts_K.sum().clamp(min=1)
    return torch.special.entr(p_K).sum() / math.log(max(k, 2))


class MetricsLog:
    """metrics.jsonl: one JSON object a line; `rewind` keeps a resumed log free of twins."""

    def __init__(self, path: Path, enabled: bool = True) -> None:
        self.path, self.enabled = path, enabled

    def write(self, **values: float | int | str | None) -> None:
        if not self.enabled:
            return
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(
                json.dumps(
                    {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}
                )
                + "\n"
            )

    def rewind(self, phase: str, step: int = -1) -> None:
        """Forget what a killed run logged of this phase after its last checkpoint; -1 forgets all
        of the phase.
        """
        if not self.enabled or not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not _is_after(line, phase, step)]
        if len(kept) < len(lines):
            write_atomic(self.path, "".join(kept))


def _is_after(line: str, phase: str, step: int) -> bool:
    try:
        row = json.loads(line)
    except ValueError:  # a line that was being written when the run was killed
        return True
    return row["phase"] == phase and row.get("step", 0) > step


class Guard:
    """Stops a run that cannot recover; what it needs stays on the device until `check` is called
    at logging time.
    """

    def __init__(self, device: torch.device, patience: int) -> None:
        self.first_bad_step = torch.full((), -1, dtype=torch.long, device=device)
        self.without_shared = torch.zeros((), dtype=torch.long, device=device)
        self.patience = patience

    def see(self, step: int, terms: dict[str, Tensor]) -> None:
        bad = ~torch.isfinite(terms["loss"].detach()) & (self.first_bad_step < 0)
        self.first_bad_step = torch.where(bad, step, self.first_bad_step)
        if "shared_parts" in terms:
            self.without_shared = torch.where(terms["shared_parts"] > 0, 0, self.without_shared + 1)

    def check(self, gather: Callable[[Tensor], Tensor] = Tensor.clone) -> int | None:
        """The first step whose loss was not finite, else None; the same on every process, whose
        values `gather` joins.

        Raises:
            TrainingError: no pair of views has shared a part for `patience` steps.
        """
        without_shared = int(gather(self.without_shared).min())
        if without_shared >= self.patience:
            raise TrainingError(
                f"no pair of views has shared a part for {without_shared} steps: nothing can be learnt. "
                "Look at parts.png of this round; raise views.crop.scale or change parts.foreground"
            )
        bad = [step for step in gather(self.first_bad_step).view(-1).tolist() if step >= 0]
        return min(bad, default=None)


def explain_non_finite(step: int, paths: list[str], dump: Path) -> TrainingError:
    """Write the batch's paths beside the run and say what to try."""
    dump.write_text("\n".join(paths) + "\n")
    return TrainingError(
        f"the loss of step {step} is not finite. The {len(paths)} images of its batch are listed in {dump}. "
        "Try a lower train.lr, train.clip=3 or run.precision=fp32"
    )
