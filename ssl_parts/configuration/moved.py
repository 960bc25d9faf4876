"""Keys of earlier versions: what to write in their place.

A key that another choice of a group has needs no row here: the composer finds it.
"""

MOVED: dict[str, str] = {
    "parts.dataset.sample_images": "it is now parts.sample_images, a key of parts=dataset",
    "parts.dataset.sample_points": "it is now parts.sample_points, a key of parts=dataset",
    "parts.dataset.spherical": "it is now parts.spherical, a key of parts=dataset",
    "parts.dataset.centre": "it is now parts.centre, a key of parts=dataset",
    "parts.dataset.backend": "it is now parts.backend, a key of parts=dataset",
    "parts.dataset.restarts": "it is now parts.restarts, a key of parts=dataset",
    "parts.dataset.elbow": "it is now parts.elbow, a key of parts=dataset",
    "parts.superpixels.compactness": "it is now parts.compactness, a key of parts=slic",
    "parts.superpixels.sigma": "it is now parts.sigma, a key of parts=slic and parts=felzenszwalb",
    "parts.superpixels.scale": "it is now parts.scale, a key of parts=felzenszwalb",
    "parts.superpixels.least_share": "it is now parts.least_share, a key of parts=felzenszwalb",
    "parts.reduction": "parts.pca_dims=96 is what reduction=pca was, parts.pca_dims=0 is exact",
    "parts.pca_share": "it is gone; parts.pca_dims says how many directions are kept",
    "parts.min_component": "it is gone; fewer parts (parts.k) or parts.position make larger areas",
    "parts.foreground.saliency": "it is now parts.foreground.threshold, a key of "
    "parts/foreground=saliency",
    "parts.foreground.affinity": "the spectral foreground is gone; use parts/foreground=votes",
    "objective.include_background": "it is now objective.particle.include_background",
    "objective.queue": "it is now objective.particle.queue",
    "objective.local_negatives": "it is now objective.particle.local_negatives",
    "objective.dino_weight": "it is now objective.particle.dino_weight",
    "objective.equivariance_weight": "it is now objective.particle.equivariance_weight",
    "objective.instance_weight": "it is now objective.particle.instance_weight",
    "objective.part_weight": "it is now objective.particle.part_weight",
    "objective.moco_queue": "it is now objective.moco.queue",
    "objective.dino_prototypes": "it is now objective.dino.prototypes",
    "objective.dino_temperature": "it is now objective.dino.temperature",
    "objective.dino_warmup_share": "it is now objective.dino.warmup_share",
    "objective.dino_freeze_share": "it is now objective.dino.freeze_share",
    "evaluation.shots": "it is now evaluation.few_label.shots, a list",
    "evaluation.draws": "it is now evaluation.few_label.draws",
    "evaluation.standardize": "it is now evaluation.linear.standardize and "
    "evaluation.few_label.standardize",
    "evaluation.c": "it is now evaluation.linear.c and evaluation.few_label.c",
    "evaluation.pooling": "it is now evaluation.linear.pooling and evaluation.few_label.pooling",
    "evaluation.part_shots": "it is now evaluation.parts.shots, a list",
    "evaluation.part_draws": "it is now evaluation.parts.draws",
    "evaluation.part_layers": "it is now evaluation.parts.layers",
    "evaluation.part_grid": "it is now evaluation.parts.grid",
    "evaluation.part_weight_decay": "it is now evaluation.parts.weight_decay",
    "evaluation.part_balance": "it is now evaluation.parts.balance",
    "evaluation.seed": "it is now evaluation.few_label.seed and evaluation.parts.seed",
}
