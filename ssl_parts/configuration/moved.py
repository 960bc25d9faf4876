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
}
