"""What can be wrong with a run and costs nothing to know, looked at before the first step."""

import torch

from ssl_parts.engine.adapt import adapt
from ssl_parts.errors import ConfigError
from ssl_parts.pretraining.arms import ARMS
from ssl_parts.pretraining.phase import steps_of
from ssl_parts.pretraining.run import Run
from ssl_parts.views import check_share


def check_run(run: Run) -> None:
    """Everything that can be wrong and costs nothing to know, before the first step.

    Raises:
        ConfigError, DataError, WeightsError, PartDiscoveryError: as `steps_of`, `check_share`,
            `check_arms`, `Encoder.check_stages` and `adapt`.
    """
    steps_of(1, len(run.bank), run.resolved_train)
    if run.resolved_train.rounds == 0 and (
        run.config.encoder.weights is not None or not run.resolved_train.base_epochs
    ):
        raise ConfigError(
            "train.rounds=0 makes a base encoder and stops: it needs train.base_epochs and no weights"
        )
    if run.resolved_train.rounds == 0 and run.config.run.control:
        raise ConfigError(
            "run.control=true compares with PARTICLE's rounds, and train.rounds=0 leaves them out"
        )
    if run.resolved_train.batch % run.accelerator.num_processes:
        raise ConfigError(
            f"train.batch={run.resolved_train.batch} does not divide by {run.accelerator.num_processes} processes"
        )
    if (
        run.resolved_train.sync_batchnorm
        and run.accelerator.num_processes > 1
        and run.accelerator.device.type == "cpu"
    ):
        raise ConfigError(
            "train.sync_batchnorm=true needs GPUs: torch has no synchronised batch norm for CPUs. With several CPU "
            "processes leave it false, or keep the statistics with train.freeze_norm=true"
        )
    check_share(run.resolved_train.batch // run.accelerator.num_processes, run.config.views)
    if run.config.views.swap_background > 0 and not run.config.parts.has_background:
        raise ConfigError(
            f"views.swap_background={run.config.views.swap_background} needs to know the background, but "
            "parts/foreground=none leaves it in; choose another foreground or views.swap_background=0"
        )
    check_arms(run)
    encoder, parts = run.encoder(None), run.config.parts
    encoder.check_stages(parts.named_stages)
    adapt(
        encoder,
        run.resolved_train.freeze_stages,
        run.resolved_train.lora_rank,
        run.resolved_train.lora_scale,
    )
    for side in (run.config.views.size, run.bank.size):  # a ViT's patches must divide both
        encoder.eval()(torch.zeros(1, 3, side, side, device=run.accelerator.device))


def check_arms(run: Run) -> None:
    """ConfigError for an arm that cannot be trained with this recipe."""
    for name in run.config.run.compared:
        ARMS[name].objective_of(run.config.objective).check()
        if name == "one_round" and run.resolved_train.rounds == 1:
            raise ConfigError(
                "run.arms has one_round, but with train.rounds=1 the result is that; raise train.rounds"
            )
