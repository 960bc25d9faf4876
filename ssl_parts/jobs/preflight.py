"""What a run will need after its training, looked at before it: test images, labels, masks, and the
place of the export.
"""

from dataclasses import replace

import numpy as np

from evaluation.config import LinearDecoderConfig
from evaluation.masks import check_masks
from evaluation.part_segmentation import draw_shots
from evaluation.protocols.config import EvaluationConfig, PartsProtocol
from evaluation.protocols.plan import Plan, plan_protocols
from ssl_parts.data import ImageBank, build_bank
from ssl_parts.data.config import Cache, DataConfig
from ssl_parts.errors import SslPartsError
from ssl_parts.recipes.schemas import Config


def plan_run(
    train: ImageBank, data: DataConfig, config: EvaluationConfig, evaluated: bool = True
) -> Plan:
    """Plan the measurements that end a run; what they read is looked at now.

    The test images' headers and ends are read, not yet their pixels, so nothing of them stays in
    memory while the encoder is trained.

    Args:
        train: the training images. evaluated: `run.evaluate`.

    Raises:
        ConfigError, DataError: no test images, damaged ones (unless data.on_bad_image=skip), or a
            mask that cannot be used.
    """
    if not evaluated:
        return Plan(notes=["nothing is measured: run.evaluate=false"])
    if not (train.labels >= 0).any() and not train.dataset.part_names:
        return Plan(notes=["nothing is measured: the images have neither labels nor part masks"])
    test = build_bank(replace(data, cache=Cache.none), data.test_split)
    plan = plan_protocols(config, train, test)
    for planned in plan.planned:
        if isinstance(planned.protocol, PartsProtocol):
            check_masks(train, drawn_images(planned.protocol, len(train)))
            check_masks(test, np.arange(len(test)))
    return plan


def describe_measurements(config: Config) -> str:
    """What the run of a configuration would measure on its data, in a few lines; the doctor's."""
    try:
        data = config.data
        train = build_bank(replace(data, cache=Cache.none))
        plan = plan_run(train, data, config.evaluation, config.run.evaluate)
    except SslPartsError as error:
        return f"  measured  a run would stop before training: {error}"
    names = [planned.protocol.id for planned in plan.planned]
    lines = [f"  measured  {', '.join(names) or 'nothing'}, at the end of a run"]
    return "\n".join([*lines, *(f"  note      {note}" for note in plan.notes)])


def drawn_images(protocol: PartsProtocol, images: int) -> np.ndarray:
    """Positions of the training images whose masks `parts` reads."""
    settings: LinearDecoderConfig = protocol
    draws = [
        each
        for shots in protocol.shots
        for each in draw_shots(images, shots or None, settings.draws, settings.seed)
    ]
    return np.unique(np.concatenate(draws))
