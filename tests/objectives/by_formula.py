"""The part-contrastive loss as a loop over anchors, to compare with."""

import math

import torch.nn.functional as F


def by_formula(q, t, ids, valid, tau=0.1, local_negatives=True, past=()):
    """The loss as the docstring of PartContrast writes it, anchor by anchor.

    past: targets of earlier batches in the denominator.
    """
    total = 0.0
    for this, other in ((0, 1), (1, 0)):
        b_all, m_all = ids[0].shape
        losses, anchors = [], 0
        for b in range(b_all):
            for i in range(m_all):
                if not valid[this][b, i]:
                    continue
                anchors += 1
                q_i = q[this][b, i].detach()

                def s(v, c, j, q_i=q_i):
                    return float(F.cosine_similarity(q_i, t[v][c, j], dim=0)) / tau

                anchor = int(ids[this][b, i])
                positives = [
                    j
                    for j in range(m_all)
                    if valid[other][b, j] and int(ids[other][b, j]) == anchor
                ]
                z = sum(math.exp(float(F.cosine_similarity(q_i, row, dim=0)) / tau) for row in past)
                for c in range(b_all):
                    for j in range(m_all):
                        own = c == b
                        if valid[other][c, j] and (local_negatives or not own or j in positives):
                            z += math.exp(s(other, c, j))
                        same = own and int(ids[this][c, j]) == anchor
                        if valid[this][c, j] and not same and (local_negatives or not own):
                            z += math.exp(s(this, c, j))
                repeats = sum(
                    bool(valid[this][b, j]) and int(ids[this][b, j]) == anchor for j in range(m_all)
                )
                if positives:
                    losses.append(
                        -sum(s(other, b, j) - math.log(z) for j in positives)
                        / len(positives)
                        / repeats
                    )
        total += sum(losses) / max(anchors, 1)
    return total
