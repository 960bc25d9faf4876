import pytest
from torch import nn

from ssl_parts.encoders.modes import evaluating


def test_modes_come_back_also_after_an_error():
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))
    network.train()
    network[1][1].eval()
    before = [module.training for module in network.modules()]
    with pytest.raises(ValueError, match="inside"), evaluating(network, None):
        assert not any(module.training for module in network.modules())
        raise ValueError("inside")
    assert [module.training for module in network.modules()] == before
