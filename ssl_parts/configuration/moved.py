"""Keys of earlier versions: those that have another name now, and what to write in place of the
others.

A key that another choice of a group has needs no row here: the composer finds it.
"""

# the value means the same: it is set under the new names, and said
RENAMED: dict[str, tuple[str, ...]] = {
    "parts.dataset.sample_images": ("parts.sample_images",),
    "parts.dataset.sample_points": ("parts.sample_points",),
    "parts.dataset.spherical": ("parts.spherical",),
    "parts.dataset.centre": ("parts.centre",),
    "parts.dataset.backend": ("parts.backend",),
    "parts.dataset.restarts": ("parts.restarts",),
    "parts.dataset.elbow": ("parts.elbow",),
    "parts.superpixels.compactness": ("parts.compactness",),
    "parts.superpixels.sigma": ("parts.sigma",),
    "parts.superpixels.scale": ("parts.scale",),
    "parts.superpixels.least_share": ("parts.least_share",),
    "parts.foreground.saliency": ("parts.foreground.threshold",),
    "objective.include_background": ("objective.particle.include_background",),
    "objective.queue": ("objective.particle.queue",),
    "objective.local_negatives": ("objective.particle.local_negatives",),
    "objective.dino_weight": ("objective.particle.dino_weight",),
    "objective.equivariance_weight": ("objective.particle.equivariance_weight",),
    "objective.instance_weight": ("objective.particle.instance_weight",),
    "objective.part_weight": ("objective.particle.part_weight",),
    "objective.moco_queue": ("objective.moco.queue",),
    "objective.dino_prototypes": ("objective.dino.prototypes",),
    "objective.dino_temperature": ("objective.dino.temperature",),
    "objective.dino_warmup_share": ("objective.dino.warmup_share",),
    "objective.dino_freeze_share": ("objective.dino.freeze_share",),
    "evaluation.shots": ("evaluation.few_label.shots",),
    "evaluation.draws": ("evaluation.few_label.draws",),
    "evaluation.standardize": ("evaluation.linear.standardize", "evaluation.few_label.standardize"),
    "evaluation.c": ("evaluation.linear.c", "evaluation.few_label.c"),
    "evaluation.pooling": ("evaluation.linear.pooling", "evaluation.few_label.pooling"),
    "evaluation.part_shots": ("evaluation.parts.shots",),
    "evaluation.part_draws": ("evaluation.parts.draws",),
    "evaluation.part_layers": ("evaluation.parts.layers",),
    "evaluation.part_grid": ("evaluation.parts.grid",),
    "evaluation.part_weight_decay": ("evaluation.parts.weight_decay",),
    "evaluation.part_balance": ("evaluation.parts.balance",),
    "evaluation.seed": ("evaluation.few_label.seed", "evaluation.parts.seed"),
}

# the value means something else, or nothing any more
MOVED: dict[str, str] = {
    "parts.reduction": "parts.pca_dims=96 is what reduction=pca was, parts.pca_dims=0 is exact",
    "parts.pca_share": "it is gone; parts.pca_dims says how many directions are kept",
    "parts.min_component": "it is gone; fewer parts (parts.k) or parts.position make larger areas",
    "parts.foreground.affinity": "the spectral foreground is gone; use parts/foreground=votes",
    "objective.distill.crops": "it is now objective.distill.passes, a list",
}
