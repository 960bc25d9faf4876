from .config import CropConfig as CropConfig
from .config import Interpolation as Interpolation
from .config import PhotometricConfig as PhotometricConfig
from .config import ViewsConfig as ViewsConfig
from .geometry import invert_theta as invert_theta
from .geometry import relate_theta as relate_theta
from .pair import ViewPlan as ViewPlan
from .pair import Views as Views
from .pair import check_share as check_share
from .pair import make_views as make_views
from .pair import plan_views as plan_views

__all__ = [
    "CropConfig",
    "Interpolation",
    "PhotometricConfig",
    "ViewPlan",
    "Views",
    "ViewsConfig",
    "check_share",
    "invert_theta",
    "make_views",
    "plan_views",
    "relate_theta",
]
