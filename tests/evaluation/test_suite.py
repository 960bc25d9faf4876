import json

import numpy as np
import pytest

from evaluation.features import extract_features
from evaluation.linear_probe import few_label_indices, linear_probe
from evaluation.part_segmentation import few_shot_part_segmentation
from evaluation.suite import Banks, EvaluationConfig, evaluate_encoder
from ssl_parts.errors import ConfigError

SMALL = EvaluationConfig(shots=2, draws=2, part_shots=6, part_draws=2, part_grid=8, batch=16)


def test_values_are_those_of_the_single_protocols(encoder, squares):
    banks = Banks(squares(images=24), squares(images=12, split="test"))
    result = evaluate_encoder(encoder, banks, SMALL)
    train, test = extract_features(encoder, banks.train), extract_features(encoder, banks.test)
    whole = linear_probe(train.pooled, train.labels, test.pooled, test.labels, standardize=True)
    assert result["values"]["linear"]["mean"] == pytest.approx(whole.accuracy)
    few = [few_label_indices(train.labels, 2, seed) for seed in (0, 1)]
    accuracies = [
        linear_probe(
            train.pooled[i], train.labels[i], test.pooled, test.labels, standardize=True
        ).accuracy
        for i in few
    ]
    assert result["values"]["linear_few"]["values"] == pytest.approx(accuracies)
    parts = few_shot_part_segmentation(
        encoder, banks.train, banks.test, 6, 0, draws=2, grid=8, weight_decay=0.01
    )
    assert result["values"]["part_miou"]["mean"] == pytest.approx(parts.miou, abs=1e-3)
    assert json.loads(json.dumps(result)) == result
    assert "C=1" in result["note"]


def test_only_what_the_data_has(encoder, squares):
    unlabelled = squares(images=8, labels=-np.ones(8, dtype=int))
    result = evaluate_encoder(encoder, Banks(unlabelled, squares(images=8, split="test")), SMALL)
    assert set(result["values"]) == {"part_miou", "part_miou_with_background"}
    banks = Banks(squares(images=8), squares(images=8, split="test"))
    banks.train.dataset.part_names = []
    assert set(evaluate_encoder(encoder, banks, SMALL)["values"]) == {"linear", "linear_few"}


def test_settings_out_of_range_are_named():
    with pytest.raises(ConfigError, match=r"evaluation.draws=0"):
        EvaluationConfig(draws=0).check()
    with pytest.raises(ConfigError, match=r"evaluation.c=-1"):
        EvaluationConfig(c=-1).check()
