"""The part-contrastive loss of PARTICLE, which is the DetCon-B loss with a validity mask (METHODS §1.4, step 4).

Shapes: B images on this process, G images on all processes, M sampled parts a view, D channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_parts.errors import ConfigError
from ssl_parts.objectives.gather import gather_targets, global_mean, global_sum, rank
from ssl_parts.objectives.queue import Queue

Pair = tuple[Tensor, Tensor]
HIDDEN = -1e9  # finite, so that a row with nothing to compare has gradient zero and not NaN


class PartContrast(nn.Module):
    r"""Contrast of parts within and across images.

    For anchor :math:`i` of image :math:`b` in one view, with :math:`s(q,t) = \cos(q,t)/\tau`,

    .. math::
        \ell(b,i) = -\frac{1[P \ne \emptyset]}{n} \frac{1}{|P|} \sum_{j \in P} \log \frac{\exp s(q_i, t_j)}{Z}

    - :math:`P`: parts of the other view of the same image with the same id;
    - :math:`Z`: all targets of the other view of all images of the global batch, and all targets of the same view
      except those of the same image with the same id;
    - :math:`n`: sampled parts of this view of this image with this id.

    Parts that are not valid are neither anchors nor targets. The loss is the mean over valid anchors of view 1 plus
    the same for view 2; a batch whose views share no part gives zero. With one part an image it is InfoNCE over
    2G - 1 targets.

    With a queue, :math:`Z` also has the last `queue` valid targets of earlier batches, of all ranks and both views
    (MoCo, arXiv 1911.05722; ours beside DetCon): negatives for small batches. An image met again may find its own old
    parts there, so the queue should be short against the data set.

    Reference: DetCon, arXiv 2103.10957, §3; PARTICLE, arXiv 2309.13822. Parity: ``lightly.loss.DetConBLoss``.

    Args:
        temperature: :math:`\tau > 0`.
        local_negatives: whether other parts of the same image are negatives.
        queue: past targets that are negatives too; 0 for none.
        channels: D, needed with a queue.

    Raises:
        ConfigError: temperature is not positive.
    """

    def __init__(
        self, temperature: float = 0.1, local_negatives: bool = True, queue: int = 0, channels: int = 0
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ConfigError(f"objective temperature is {temperature}; it must be positive (the paper uses 0.1)")
        self.temperature = temperature
        self.local_negatives = local_negatives
        self.queue = Queue(queue, channels) if queue > 0 else None

    def forward(self, predictions: Pair, targets: Pair, ids: Pair, valid: Pair) -> Tensor:
        """Loss of a batch of pairs.

        Args:
            predictions: two of (B,M,D), from the student, with gradient.
            targets: two of (B,M,D): projections of the teacher without gradient (DetCon-B), or the predictions
                themselves, with gradient on both sides (DetCon-S; with one part an image SimCLR).
            ids: two of long (B,M).
            valid: two of bool (B,M).

        Returns:
            Scalar, in fp32.
        """
        with torch.autocast(predictions[0].device.type, enabled=False):
            return self._both_ways(predictions, targets, ids, valid)

    def _both_ways(self, predictions: Pair, targets: Pair, ids: Pair, valid: Pair) -> Tensor:
        one, two = (F.normalize(q.float(), dim=-1) for q in predictions)
        everyone = [gather_targets(F.normalize(t.float(), dim=-1)) for t in targets]
        valid_everyone = [gather_targets(v) for v in valid]
        first = self._one_way(one, everyone, valid_everyone, ids, valid)
        second = self._one_way(two, everyone[::-1], valid_everyone[::-1], ids[::-1], valid[::-1])
        if self.queue is not None:
            self.queue.push(torch.stack(everyone, 1).flatten(0, 2), torch.stack(valid_everyone, 1).flatten())
        return first + second

    def _one_way(self, q_BMD: Tensor, targets: list[Tensor], valid_all: list[Tensor], ids: Pair, valid: Pair) -> Tensor:
        """Anchors of one view; each pair of arguments is ordered (this view, the other view)."""
        positive_BMM = _same_id(ids[0], ids[1], valid[0], valid[1])
        itself_BMM = _same_id(ids[0], ids[0], valid[0], valid[0])
        across_BMGM = self._logits(q_BMD, targets[1], valid_all[1])
        within_BMGM = self._logits(q_BMD, targets[0], valid_all[0])
        local = _own_block(across_BMGM)
        if self.local_negatives:
            _hide(_own_block(within_BMGM), itself_BMM)
        else:
            _hide(_own_block(within_BMGM), torch.ones_like(itself_BMM))
            _hide(local, ~positive_BMM)
        log_z_BM = torch.logsumexp(torch.cat([across_BMGM, within_BMGM], 2).flatten(2), dim=-1)
        if self.queue is not None:
            past_BMQ = (q_BMD @ self.queue.rows_QD.T / self.temperature).masked_fill(~self.queue.filled_Q, HIDDEN)
            log_z_BM = torch.logaddexp(log_z_BM, past_BMQ.logsumexp(-1))
        log_p_BMM = _own_block(across_BMGM) - log_z_BM.unsqueeze(-1)
        positives_BM = positive_BMM.sum(-1)
        mean_log_p_BM = torch.where(positive_BMM, log_p_BMM, 0.0).sum(-1) / positives_BM.clamp(min=1)
        repeats_BM = itself_BMM.sum(-1).clamp(min=1)
        loss_BM = torch.where(positives_BM > 0, -mean_log_p_BM / repeats_BM, 0.0)
        return global_mean(loss_BM.sum(), valid[0].sum())

    def _logits(self, q_BMD: Tensor, t_GMD: Tensor, valid_GM: Tensor) -> Tensor:
        logits_BMGM = torch.einsum("bmd,gnd->bmgn", q_BMD, t_GMD) / self.temperature
        return logits_BMGM.masked_fill(~valid_GM, HIDDEN)


def shared_parts(ids: Pair, valid: Pair) -> Tensor:
    """Parts of view 1 that view 2 has too, an image: float (B,). Zero everywhere means that nothing can be learnt."""
    return _same_id(ids[0], ids[1], valid[0], valid[1]).any(-1).sum(-1).float()


def mean_shared_parts(ids: Pair, valid: Pair) -> Tensor:
    """The mean of `shared_parts` over the images of all ranks, the same number on each: a scalar."""
    shared_B = shared_parts(ids, valid)
    return global_sum(shared_B.sum()) / global_sum(torch.ones_like(shared_B).sum())


def _same_id(ids_a_BM: Tensor, ids_b_BM: Tensor, valid_a_BM: Tensor, valid_b_BM: Tensor) -> Tensor:
    same_BMM = ids_a_BM.unsqueeze(2) == ids_b_BM.unsqueeze(1)
    return same_BMM & valid_a_BM.unsqueeze(2) & valid_b_BM.unsqueeze(1)


def _own_block(logits_BMGM: Tensor) -> Tensor:
    """View of the logits of each image with its own targets, (B,M,M): no (B·M)² label tensor is ever built."""
    b = logits_BMGM.shape[0]
    own = logits_BMGM[:, :, rank() * b : (rank() + 1) * b]
    return own.diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def _hide(block_BMM: Tensor, mask_BMM: Tensor) -> None:
    block_BMM.masked_fill_(mask_BMM, HIDDEN)
