"""Every bound of the view keys is checked and named."""

import pytest

from ssl_parts.errors import ConfigError
from ssl_parts.views import CropConfig, PhotometricConfig, ViewsConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 15}, r"views\.size=15 must be at least 16"),
        ({"ids_size": 0}, r"views\.ids_size=0 must be at least 1"),
        ({"size": 32, "ids_size": 33}, r"views\.ids_size=33 must be at most views\.size=32"),
        ({"swap_background": 1.5}, r"views\.swap_background=1\.5 must lie in \[0, 1\]"),
        ({"crop": CropConfig(scale=[0.0, 1.0])}, r"views\.crop\.scale=\[0\.0, 1\.0\] must lie in"),
        ({"crop": CropConfig(scale=[0.9, 0.1])}, r"views\.crop\.scale=\[0\.9, 0\.1\].*lowest"),
        ({"crop": CropConfig(ratio=[1.0])}, r"views\.crop\.ratio=\[1\.0\] must be 2 values"),
        ({"crop": CropConfig(ratio=[2.0, 1.0])}, r"views\.crop\.ratio=\[2\.0, 1\.0\].*lowest"),
        ({"crop": CropConfig(flip=-0.1)}, r"views\.crop\.flip=-0\.1"),
        (
            {"photometric": PhotometricConfig(blur_sigma=[2.0, 0.1])},
            r"views\.photometric\.blur_sigma=\[2\.0, 0\.1\].*lowest",
        ),
    ],
)
def test_values_that_cannot_work_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        ViewsConfig(**wrong).check()


def test_the_defaults_and_single_values_on_a_bound_pass():
    ViewsConfig().check()
    ViewsConfig(size=16, ids_size=16, swap_background=1.0, crop=CropConfig([1.0, 1.0])).check()
