"""Part pooling against a loop over images and parts."""

import torch

from ssl_parts.objectives.pooling import pool_parts, vote_ids


def test_vectors_are_the_means_over_the_cells_of_each_id():
    g = torch.Generator().manual_seed(0)
    features, ids = torch.randn(3, 5, 4, 6, generator=g), torch.randint(7, (3, 4, 6), generator=g)
    parts = pool_parts(features, ids, k=7, samples=7)
    for b in range(3):
        present = sorted(set(ids[b].flatten().tolist()))
        assert parts.ids_BM[b][parts.valid_BM[b]].tolist() == present
        for m, part in enumerate(present):
            expected = features[b][:, ids[b] == part].mean(1)
            torch.testing.assert_close(parts.vectors_BMD[b, m], expected)
        assert not parts.vectors_BMD[b][~parts.valid_BM[b]].any()


def test_majority_decides_on_a_coarser_grid():
    ids = torch.tensor([[[0, 1, 2, 2], [1, 1, 2, 0], [3, 3, 0, 1], [3, 0, 1, 1]]])
    assert vote_ids(ids, 4, (2, 2)).tolist() == [[[1, 2], [3, 1]]]


def test_priority_takes_the_same_parts_from_both_views_and_never_the_background():
    ids = torch.tensor([[[0, 1], [2, 3]], [[3, 2], [1, 0]]])
    priority = torch.tensor([[0.9, 0.1, 0.8, 0.7]]).expand(2, 4)
    parts = pool_parts(
        torch.randn(2, 3, 2, 2), ids, 4, samples=2, priority_BK=priority, background=0
    )
    assert parts.ids_BM.tolist() == [[2, 3], [2, 3]]
    assert parts.valid_BM.all()


def test_fewer_parts_than_samples_are_marked_and_zero():
    parts = pool_parts(torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long), 5, samples=3)
    assert parts.valid_BM.tolist() == [[True, False, False]]
    assert parts.vectors_BMD[0, 1:].abs().sum() == 0
