"""Protocols by id; PROTOCOLS.md says what each is. `run_protocol(protocol, bench)` gives rows of
results.json.
"""

from evaluation.protocols.bench import Bench, EvaluationProtocol, Measured, run_protocol
from evaluation.protocols.classification import FewLabelProtocol, KnnProtocol, LinearProtocol
from evaluation.protocols.dense import DiscoveryProtocol, OverclusterProtocol, RetrievalProtocol
from evaluation.protocols.segmentation import PartsDecoderProtocol, PartsProtocol

PROTOCOLS: dict[str, type[EvaluationProtocol]] = {
    kind.id: kind
    for kind in (
        LinearProtocol,
        FewLabelProtocol,
        KnnProtocol,
        PartsProtocol,
        PartsDecoderProtocol,
        RetrievalProtocol,
        OverclusterProtocol,
        DiscoveryProtocol,
    )
}

__all__ = ["PROTOCOLS", "Bench", "EvaluationProtocol", "Measured", "run_protocol"]
