from .bench import Bench as Bench
from .bench import Measured as Measured
from .config import PROTOCOLS as PROTOCOLS
from .config import DiscoveryProtocol as DiscoveryProtocol
from .config import EvaluationConfig as EvaluationConfig
from .config import FewLabelProtocol as FewLabelProtocol
from .config import KnnProtocol as KnnProtocol
from .config import LinearProtocol as LinearProtocol
from .config import LinearSweptProtocol as LinearSweptProtocol
from .config import OverclusterProtocol as OverclusterProtocol
from .config import PartsDecoderProtocol as PartsDecoderProtocol
from .config import PartsFinetuneProtocol as PartsFinetuneProtocol
from .config import PartsProtocol as PartsProtocol
from .config import ProtocolConfig as ProtocolConfig
from .config import RetrievalProtocol as RetrievalProtocol
from .run import run_protocol as run_protocol
from .suite import evaluate_encoder as evaluate_encoder

__all__ = [
    "PROTOCOLS",
    "Bench",
    "DiscoveryProtocol",
    "EvaluationConfig",
    "FewLabelProtocol",
    "KnnProtocol",
    "LinearProtocol",
    "LinearSweptProtocol",
    "Measured",
    "OverclusterProtocol",
    "PartsDecoderProtocol",
    "PartsFinetuneProtocol",
    "PartsProtocol",
    "ProtocolConfig",
    "RetrievalProtocol",
    "evaluate_encoder",
    "run_protocol",
]
