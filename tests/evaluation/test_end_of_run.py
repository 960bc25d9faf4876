"""The protocols that end a run are those of launch/evaluate.py, number for number."""

import numpy as np
import pytest

from evaluation.protocols import (
    PROTOCOLS,
    Bench,
    EvaluationConfig,
    FewLabelProtocol,
    PartsProtocol,
    evaluate_encoder,
    run_protocol,
)
from ssl_parts.errors import ConfigError

SMALL = EvaluationConfig(
    few_label=FewLabelProtocol(shots=[2.0], draws=2),
    parts=PartsProtocol(shots=[6], draws=2, grid=8),
)


@pytest.fixture
def bench(encoder, squares):
    return Bench(encoder, squares(images=24), squares(images=12, split="test"), batch=8, data="sq")


def test_rows_are_those_of_the_protocols_alone(bench, encoder, squares):
    rows = evaluate_encoder(bench, SMALL, "base", "abc")
    assert [row.protocol for row in rows] == ["linear", "few_label", "parts"]
    for row in rows:
        fresh = Bench(encoder, squares(images=24), squares(images=12, split="test"), data="sq")
        (alone,) = run_protocol(SMALL.protocol(row.protocol), fresh, "base", "abc")
        assert row.values.keys() == alone.values.keys() and row.settings == alone.settings
        assert row.config_hash == alone.config_hash and row.data == "sq"
        for key, measure in row.values.items():
            assert measure.values == pytest.approx(alone.values[key].values, abs=1e-3)


def test_defaults_are_the_protocols_own_but_for_the_number_of_labels():
    config = EvaluationConfig()
    for name in config.protocols:
        ours, theirs = vars(config.protocol(name)), vars(PROTOCOLS[name]())
        assert {key for key in ours if ours[key] != theirs[key]} <= {"shots"}
        assert set(ours.get("shots", [])) <= set(theirs.get("shots", []))


def test_features_are_extracted_once_for_all_protocols(bench, monkeypatch):
    asked = []
    original = bench.cache.pooled
    monkeypatch.setattr(
        bench.cache,
        "pooled",
        lambda encoder, bank, *rest, **options: (
            asked.append(bank),
            original(encoder, bank, *rest, **options),
        )[1],
    )
    evaluate_encoder(bench, EvaluationConfig(protocols=["linear", "few_label", "knn"]))
    assert asked == [bench.train, bench.test]


def test_only_what_the_data_has(encoder, squares):
    unlabelled = squares(images=8, labels=-np.ones(8, dtype=int))
    bench = Bench(encoder, unlabelled, squares(images=8, split="test"))
    assert [row.protocol for row in evaluate_encoder(bench, SMALL)] == ["parts"]
    bench = Bench(encoder, squares(images=8), squares(images=8, split="test"))
    bench.train.dataset.part_names = []
    assert [row.protocol for row in evaluate_encoder(bench, SMALL)] == ["linear", "few_label"]
    assert evaluate_encoder(bench, EvaluationConfig(protocols=[])) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EvaluationConfig(few_label=FewLabelProtocol(draws=0)), r"evaluation\.few_label\.draws=0"),
        (EvaluationConfig(protocols=["liner"]), "did you mean 'linear'"),
        (EvaluationConfig(protocols=["linear", "linear"]), "each protocol once"),
        (EvaluationConfig(parts=PartsProtocol(shots=[])), r"evaluation\.parts\.shots=\[\]"),
    ],
)
def test_settings_out_of_range_are_named(config, message):
    with pytest.raises(ConfigError, match=message):
        config.check()
