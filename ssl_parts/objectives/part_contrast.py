"""The part-contrastive loss of PARTICLE, which is the DetCon-B loss with a validity mask (METHODS
§1.4, step 4).

Shapes: B images on this process, C of them in a chunk, G on all processes, V = 2 views, M sampled
parts a view, D channels, Q past targets, R = C·M rows, T = V·G·M targets.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

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
    - :math:`Z`: all targets of the other view of all images of the global batch, and all targets
      of the same view except those of the same image with the same id;
    - :math:`n`: sampled parts of this view of this image with this id.

    Parts that are not valid are neither anchors nor targets. The loss is the mean over valid
    anchors of view 1 plus the same for view 2; a batch whose views share no part gives zero. With
    one part an image it is InfoNCE over 2G - 1 targets.

    With a queue, :math:`Z` also has the last `queue` valid targets of earlier batches, of all
    ranks and both views (MoCo, arXiv 1911.05722; ours beside DetCon): negatives for small batches.
    An image met again may find its own old parts there, so the queue should be short against the
    data set.

    Anchors are taken image by image in chunks of at most `logits_at_once` logits, computed again
    in the backward pass, so memory grows with B·M and not with its square; a batch that fits into
    one chunk is computed once.

    Reference: DetCon, arXiv 2103.10957, §3; PARTICLE, arXiv 2309.13822. Parity:
    ``lightly.loss.DetConBLoss``.

    Args:
        temperature: :math:`\tau > 0`.
        local_negatives: whether other parts of the same image are negatives.
        queue: past targets that are negatives too; 0 for none.
        channels: D, needed with a queue.
        logits_at_once: size of a chunk; the backward pass holds some four times 4 bytes for each.

    Raises:
        ConfigError: temperature is not positive.
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
        """Loss of a batch of pairs.

        Args:
            predictions: two of (B,M,D), from the student, with gradient.
            targets: two of (B,M,D): projections of the teacher without gradient (DetCon-B), or the
                predictions themselves, with gradient on both sides (DetCon-S; with one part an
                image SimCLR).
            ids: two of long (B,M).
            valid: two of bool (B,M).

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
            two, everyone.flip(0), valid_everyone.flip(0), ids[::-1], valid[::-1]
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
            again = {"use_reentrant": False, "preserve_rng_state": False}
            loss = sum(
                checkpoint(self._sum, *rows, first + i * chunk, *everyone, **again)
                for i, rows in chunks
            )
        return global_mean(loss, valid[0].sum())

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
        """Sum over the anchors of C images, which begin with image `first` of the global batch.

        Args:
            q_CMD: over the temperature.
            own_CMD: targets of the same images in the other view.
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


def shared_parts(ids: Pair, valid: Pair) -> Tensor:
    """Parts of view 1 that view 2 has too, an image: float (B,). Zero everywhere means that
    nothing can be learnt.
    """
    return _same_id(ids[0], ids[1], valid[0], valid[1]).any(-1).sum(-1).float()


def mean_shared_parts(ids: Pair, valid: Pair) -> Tensor:
    """The mean of `shared_parts` over the images of all ranks, the same number on each: a scalar."""
    shared_B = shared_parts(ids, valid)
    return global_sum(shared_B.sum()) / global_sum(torch.ones_like(shared_B).sum())


def _same_id(ids_a_BM: Tensor, ids_b_BM: Tensor, valid_a_BM: Tensor, valid_b_BM: Tensor) -> Tensor:
    same_BMM = ids_a_BM.unsqueeze(2) == ids_b_BM.unsqueeze(1)
    return same_BMM & valid_a_BM.unsqueeze(2) & valid_b_BM.unsqueeze(1)


def _own_block(logits_CMGM: Tensor, first: int) -> Tensor:
    """View of the logits of images first, first + 1, ... with their own targets, (C,M,M): labels
    are never built.
    """
    own = logits_CMGM[:, :, first : first + len(logits_CMGM)]
    return own.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
