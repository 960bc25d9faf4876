"""A launcher that shards networks is refused before anything is computed or written."""

import pytest
from tiny_run import overrides

from ssl_parts.errors import ConfigError
from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.recipes.load import load_recipe


@pytest.mark.parametrize(
    "key, name", [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")]
)
def test_sharded_networks_are_refused_before_any_file(tmp_path, monkeypatch, key, name):
    monkeypatch.setenv(key, "true")
    with pytest.raises(
        ConfigError, match=rf"{name} \({key}=true\).*MULTI_GPU.*train\.grad_checkpointing=true"
    ):
        pretrain(load_recipe("quickstart", overrides(tmp_path / "runs")))
    assert not (tmp_path / "runs").exists()
