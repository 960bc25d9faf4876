"""The part-contrastive loss of PARTICLE (arXiv 2309.13822, section 3), which is the DetCon-B loss
(arXiv 2103.10957, section 3) with a validity mask.

Shapes: B images on this process, C of them in a chunk, G on all processes, V = 2 views, M sampled
parts per view, D channels, Q past targets, R = C·M rows, T = V·G·M targets.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssl_parts.errors import ConfigError
from ssl_parts.objectives.gather import (
    average_over_processes,
    gather_targets,
    rank,
    sum_over_processes,
)
from ssl_parts.objectives.queue import Queue

Pair = tuple[Tensor, Tensor]
HIDDEN = -1e9  # finite, so that a row with nothing to compare has gradient zero and not NaN


class PartContrast(nn.Module):
    r"""Contrast of parts within and across images.

    For anchor :math:`i` of image :math:`b` in one view, with :math:`s(q,t) = \cos(q,t)/\tau`,

    .. math::
        \ell(b,i) = -\frac{1[P \ne \emptyset]}{n} \frac{1}{|P|}
            \sum_{j \in P} \log \frac{\exp s(q_i, t_j)}{Z}

    - :math:`P`: parts of the other view of the same image with the same id;
    - :math:`Z`: all targets of the other view of all images of the global batch, and all targets
      of the same view except those of the same image with the same id;
    - :math:`n`: sampled parts of this view of this image with this id.

    Parts that are not valid are neither anchors nor targets. The loss is the mean over valid
    anchors of view 1 plus the same for view 2; a batch whose views share no part gives zero. With
    one part per image it is InfoNCE over 2G - 1 targets.

    With a queue, :math:`Z` also has the last `queue` valid targets of earlier batches, of all
    processes and both views (MoCo, arXiv 1911.05722, section 3.2; ours beside DetCon): negatives
    for small batches.
    An image met again may find its own old parts there, so the queue should be short against the
    data set.

    Anchors are taken image by image in chunks of at most `logits_at_once` logits, computed again
    in the backward pass, so memory grows with B·M and not with its square; a batch that fits into
    one chunk is computed once.

    Reference: DetCon, arXiv 2103.10957, section 3; PARTICLE, arXiv 2309.13822, section 3. Parity:
    ``lightly.loss.DetConBLoss``.

    Args:
        temperature: :math:`\tau > 0`.
        local_negatives: whether other parts of the same image are negatives.
        queue: past targets that are negatives too; 0 for none.
        channels: D, needed with a queue.
        logits_at_once: size of a chunk; the backward pass holds some four times 4 bytes for each.

    Raises:
        ConfigError: temperature is not positive.

    Example:
        >>> contrast = PartContrast(temperature=0.1)
        >>> q = torch.randn(2, 8, 5, 32, requires_grad=True)  # 2 views, 8 images, 5 parts, D = 32
        >>> t = torch.randn(2, 8, 5, 32)  # the teacher's
        >>> ids = torch.arange(5).expand(2, 8, 5)
        >>> valid = torch.ones(2, 8, 5, dtype=torch.bool)
        >>> loss = contrast(tuple(q), tuple(t), tuple(ids), tuple(valid))
        >>> loss.backward()
        >>> found = q.detach().flip(0)  # as if each view predicted the other's target
        >>> bool(contrast(tuple(q), tuple(found), tuple(ids), tuple(valid)) < loss)
        True
    """

    def __init__(
        self,
        temperature: float = 0.1,
        local_negatives: bool = True,
        queue: int = 0,
        channels: int = 0,
        logits_at_once: int = 2**22,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ConfigError(
                f"objective temperature is {temperature}; it must be positive (the paper uses 0.1)"
            )
        self.temperature = temperature
        self.local_negatives = local_negatives
        self.logits_at_once = logits_at_once
        self.queue = Queue(queue, channels) if queue > 0 else None

    def forward(self, predictions: Pair, targets: Pair, ids: Pair, valid: Pair) -> Tensor:
        """Compute the loss of a batch of pairs, the formula of the class; every argument is (view
        1, view 2).

        Args:
            predictions: two of (B,M,D), from the student, with gradient.
            targets: two of (B,M,D): projections of the teacher without gradient (DetCon-B), or the
                predictions themselves, with gradient on both sides (DetCon-S; with one part per
                image SimCLR).
            ids: two of long (B,M), the part that each row shows.
            valid: two of bool (B,M); a row that is not valid is neither anchor nor target.

        Returns:
            Scalar, in fp32.
        """
        with torch.autocast(predictions[0].device.type, enabled=False):
            return self._both_ways(predictions, targets, ids, valid)

    def _both_ways(self, predictions: Pair, targets: Pair, ids: Pair, valid: Pair) -> Tensor:
        one, two = (F.normalize(q.float(), dim=-1) for q in predictions)
        everyone = torch.stack([gather_targets(F.normalize(t.float(), dim=-1)) for t in targets])
        valid_everyone = torch.stack([gather_targets(v) for v in valid])
        first = self._one_way(one, everyone, valid_everyone, ids, valid)
        second = self._one_way(
            two, everyone.flip(0), valid_everyone.flip(0), _swap(ids), _swap(valid)
        )
        if self.queue is not None:
            self.queue.push(
                everyone.transpose(0, 1).flatten(0, 2), valid_everyone.transpose(0, 1).flatten()
            )
        return first + second

    def _one_way(
        self, q_BMD: Tensor, t_VGMD: Tensor, valid_VGM: Tensor, ids: Pair, valid: Pair
    ) -> Tensor:
        """Anchors of one view; each pair of arguments and each V is ordered (this view, the other
        view).
        """
        b, m, first = *q_BMD.shape[:2], rank() * len(q_BMD)
        # backward is after the push
        past = None if self.queue is None else (self.queue.rows_QD, self.queue.filled_Q)
        everyone = (t_VGMD, ~valid_VGM, past)
        anchors = (
            q_BMD / self.temperature,
            t_VGMD[1, first : first + b],
            _same_id(ids[0], ids[1], valid[0], valid[1]),
            _same_id(ids[0], ids[0], valid[0], valid[0]),
        )
        chunk = max(1, self.logits_at_once // (m * valid_VGM.numel()))
        if chunk >= b:
            loss = self._sum(*anchors, first, *everyone)
        else:
            chunks = enumerate(zip(*(rows.split(chunk) for rows in anchors), strict=True))
            sums = (
                checkpoint(
                    self._sum,
                    *rows,
                    first + i * chunk,
                    *everyone,
                    use_reentrant=False,
                    preserve_rng_state=False,  # nothing in it is random
                )
                for i, rows in chunks
            )
            loss = reduce(torch.add, sums)
        return average_over_processes(loss, valid[0].sum())

    def _sum(
        self,
        q_CMD: Tensor,
        own_CMD: Tensor,
        positive_CMM: Tensor,
        itself_CMM: Tensor,
        first: int,
        t_VGMD: Tensor,
        hidden_VGM: Tensor,
        past: Pair | None,
    ) -> Tensor:
        """Sum the loss over the anchors of C images, the first of them `first` in the global batch.

        Args:
            q_CMD: anchors, divided by the temperature.
            own_CMD: targets of the same images in the other view.
            positive_CMM: bool, whether target j of the other view is the part of anchor i.
            itself_CMM: bool, whether target j of the same view is.
            t_VGMD: all targets, of this view and of the other.
            hidden_VGM: bool, those that are not valid.
            past: rows of the queue, and which of them are filled.
        """
        logits_RT = q_CMD.flatten(0, 1) @ t_VGMD.flatten(0, 2).T
        # a hidden target has no share in Z, hence gradient zero: autograd need not know
        with torch.no_grad():
            logits_CMVGM = logits_RT.view(*q_CMD.shape[:2], *hidden_VGM.shape).masked_fill_(
                hidden_VGM, HIDDEN
            )
            within_CMM, across_CMM = (
                _own_block(logits, first) for logits in logits_CMVGM.unbind(2)
            )
            within_CMM.masked_fill_(
                itself_CMM if self.local_negatives else torch.ones_like(itself_CMM), HIDDEN
            )
            if not self.local_negatives:
                across_CMM.masked_fill_(~positive_CMM, HIDDEN)
        log_z_CM = logits_RT.logsumexp(-1).view(q_CMD.shape[:2])
        if past is not None:
            past_CMQ = (q_CMD @ past[0].T).masked_fill(~past[1], HIDDEN)
            log_z_CM = torch.logaddexp(log_z_CM, past_CMQ.logsumexp(-1))
        log_p_CMM = q_CMD @ own_CMD.mT - log_z_CM.unsqueeze(-1)
        positives_CM = positive_CMM.sum(-1)
        mean_log_p_CM = torch.where(positive_CMM, log_p_CMM, 0.0).sum(-1) / positives_CM.clamp(
            min=1
        )
        repeats_CM = itself_CMM.sum(-1).clamp(min=1)
        return torch.where(positives_CM > 0, -mean_log_p_CM / repeats_CM, 0.0).sum()


def count_shared_parts(ids: Pair, valid: Pair) -> Tensor:
    """Count the parts of view 1 that view 2 has too, per image: float (B,).

    Zero everywhere means that nothing can be learnt.
    """
    return _same_id(ids[0], ids[1], valid[0], valid[1]).any(-1).sum(-1).float()


def average_shared_parts(ids: Pair, valid: Pair) -> Tensor:
    """Average `count_shared_parts` over the images of all processes: a scalar, equal on each."""
    shared_B = count_shared_parts(ids, valid)
    total = sum_over_processes(shared_B.sum())
    return total / sum_over_processes(torch.ones_like(shared_B).sum())


def _swap(pair: Pair) -> Pair:
    return pair[1], pair[0]


def _same_id(ids_a_BM: Tensor, ids_b_BM: Tensor, valid_a_BM: Tensor, valid_b_BM: Tensor) -> Tensor:
    same_BMM = ids_a_BM.unsqueeze(2) == ids_b_BM.unsqueeze(1)
    return same_BMM & valid_a_BM.unsqueeze(2) & valid_b_BM.unsqueeze(1)


def _own_block(logits_CMGM: Tensor, first: int) -> Tensor:
    """View the logits of images first, first + 1, ... with their own targets, (C,M,M).

    Labels of all pairs, (C,M,G,M), are never built.
    """
    own = logits_CMGM[:, :, first : first + len(logits_CMGM)]
    return own.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
