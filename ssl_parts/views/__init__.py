"""Views of an image and of its part ids: one sampling grid for both, photometric changes on the
device.
"""

from ssl_parts.views.geometry import inverse_theta, relative_theta
from ssl_parts.views.pair import Recipe, Views, ViewsConfig, check_share, draw_recipe, make_views

__all__ = [
    "Recipe",
    "Views",
    "ViewsConfig",
    "check_share",
    "draw_recipe",
    "inverse_theta",
    "make_views",
    "relative_theta",
]
