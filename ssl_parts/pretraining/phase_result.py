"""What a phase leaves when its last step is done: the encoder that the next stage begins with."""

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor, nn

from ssl_parts.data import Bank
from ssl_parts.encoders import Encoder
from ssl_parts.engine.adapt import merge_adapters
from ssl_parts.engine.checkpoint import save_tensors
from ssl_parts.engine.teacher import interpolate
from ssl_parts.pretraining.mixing import choose_share
from ssl_parts.pretraining.train_config import Network, ResolvedTrainConfig
from ssl_parts.views import ViewsConfig

RESULT = "encoder.safetensors"
# weights that find the parts of the next round, where train.discover_with names another network
# than train.keep
DISCOVERY_WEIGHTS = "discovery.safetensors"


@dataclass(frozen=True)
class PhaseResult:
    """The result of a phase: where it goes, and what it is mixed with.

    Attributes:
        folder: of the phase.
        train: how it was trained.
        initial: state dict of the encoder that training started from.
        bank: training images, and views: how they are changed, for train.interpolate=auto.
    """

    folder: Path
    train: ResolvedTrainConfig
    initial: dict[str, Tensor]
    bank: Bank
    views: ViewsConfig
    accelerator: Accelerator

    def write(self, encoders: dict[Network, Encoder]) -> None:
        """Write `encoder.safetensors`: student or teacher (train.keep), interpolated with the
        initial weights. If train.discover_with names the other network, write it to
        discovery.safetensors first.

        Side effect: adapters are merged into the weights.
        """
        train = self.train
        for encoder in encoders.values():
            merge_adapters(encoder)
        mixed = self.interpolate(encoders[train.keep])
        if self.accelerator.is_main_process:
            if train.discover_with not in (None, train.keep):
                other = encoders[train.discover_with]
                save_tensors(self.folder / DISCOVERY_WEIGHTS, other.state_dict())
            save_tensors(self.folder / RESULT, mixed)
        self.accelerator.wait_for_everyone()

    def interpolate(self, encoder: Encoder) -> dict[str, Tensor]:
        """State dict interpolated between initial and trained weights (WiSE-FT).

        Side effect: with train.interpolate=auto `encoder` ends with the last candidate's weights.
        """
        share = self.train.interpolate
        trained = {name: value.clone() for name, value in encoder.state_dict().items()}
        if isinstance(share, str):
            share = choose_share(
                self.folder,
                encoder,
                self.initial,
                trained,
                self.bank,
                self.views,
                self.accelerator,
            )
        return interpolate(self.initial, trained, share)


def encoder_of(network: nn.Module) -> Encoder:
    """The encoder of a student or teacher."""
    encoder = network.encoder
    assert isinstance(encoder, Encoder), "networks of objectives have an encoder"
    return encoder
