"""Words of a command line become a configuration: texts as they are, numbers by their type, and
one sentence for what cannot be.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl_parts.configuration.checks import bounded, check_bounds
from ssl_parts.configuration.compose import (
    compose_config,
    compose_words,
    flatten,
    load_config,
    to_yaml,
)
from ssl_parts.configuration.moved import MOVED, RENAMED
from ssl_parts.errors import ConfigError


@dataclass
class Data:
    name: str = "folder"
    root: str | None = None
    size: int = bounded(64, at_least=8)
    shares: list[float] = bounded([0.5, 1.0], above=0, at_most=1, length=2)
    layers: list[str] = field(default_factory=list)
    keep: float | int | str | None = None
    free: dict = field(default_factory=dict)

    def check(self) -> None:
        check_bounds("data", self)


@dataclass
class Small:
    data: Data = field(default_factory=Data)
    lr: float = 0.1
    half: int = 0

    def check(self) -> None:
        self.data.check()


@pytest.fixture
def configs(tmp_path):
    for name, text in {
        "pretrain/small.yaml": "# @package _global_\ndefaults:\n  - /pretrain_schema\n"
        "  - /data: folder\n  - _self_\nhalf: ${times:${data.size},0.5}\n",
        "discover/default.yaml": "# @package _global_\n",
        "data/folder.yaml": "size: 32\n",
        "data/birds.yaml": "name: birds\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def composed(configs, *words):
    return compose_config(Small, "pretrain", "small", words, configs=configs)


def test_groups_then_keys_then_what_follows_from_them(configs):
    config = composed(configs, "data.size=48", "data=birds", "lr=1e-3")
    assert (config.data.name, config.data.size, config.half, config.lr) == ("birds", 48, 24, 1e-3)
    assert composed(configs).data.size == 32 and composed(configs).half == 16


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_any_text_is_taken_as_it_is(configs, text):
    if "${" in text or text == "null" or text.startswith("~"):
        return
    assert composed(configs, f"data.root={text}").data.root == text


def test_paths_of_the_shell(configs, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    for text in ("a=b", "(x) [y] {z}", 'it\'s "here"', "#1 & more", "птицы", "1.10", "true", "~x"):
        assert composed(configs, f"data.root={text}").data.root == text
    assert composed(configs, "data.root=~/birds").data.root == "/home/somebody/birds"
    assert composed(configs, "data.root=null").data.root is None


def test_lists_mappings_and_values_of_several_types(configs):
    config = composed(configs, "data.layers=[layer2,1.10]", "data.shares=[0.25,1]")
    assert config.data.layers == ["layer2", "1.10"] and config.data.shares == [0.25, 1.0]
    free = composed(
        configs, "data.free.pad=same", "+data.free.rate=1e-3", "data.free.n=3"
    ).data.free
    assert free == {"pad": "same", "rate": 1e-3, "n": 3}
    for text, value in (("auto", "auto"), ("0.5", 0.5), ("1", 1)):
        assert composed(configs, f"data.keep={text}").data.keep == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.siez=3", "unknown key 'data.siez' in 'data.siez=3', did you mean 'data.size'"),
        ("+data.siez=3", "did you mean 'data.size'"),
        ("++data.siez=3", "did you mean 'data.size'"),
        ("dta.size=3", "did you mean 'data.size'"),
        ("~lr=3", "keys cannot be removed"),
        ("data=brds", "no such file in configs/data, did you mean 'birds'"),
        ("data.size=large", "data.size=large: Value 'large'"),
        ("data.layers=[a", "data.layers="),
        ("small", "'small' is not key=value"),
        ("lr.x=3", "unknown key 'lr.x'"),
        ("data.root=${oc.env:HOME}", "can be used in recipes, not on the command line"),
    ],
)
def test_mistakes_are_one_sentence(configs, word, message):
    with pytest.raises(ConfigError) as raised:
        composed(configs, word)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_section_is_no_value_and_moved_keys_say_where_to(configs, monkeypatch):
    with pytest.raises(ConfigError, match=r"data is a section|no such file"):
        composed(configs, "data=3")
    monkeypatch.setitem(MOVED, "data.side", "it is now data.size")
    with pytest.raises(ConfigError, match=r"data\.side.*it is now data\.size"):
        composed(configs, "data.side=3")


def test_renamed_keys_are_understood_and_said(configs, monkeypatch, caplog):
    monkeypatch.setitem(RENAMED, "data.side", ("data.size",))
    assert composed(configs, "data.side=3").data.size == 3
    assert "data.side is now called data.size" in caplog.text
    with pytest.raises(ConfigError, match=r"data\.size=large"):
        composed(configs, "data.side=large")


def test_one_value_is_a_list_of_one(configs):
    assert composed(configs, "data.layers=a").data.layers == ["a"]
    assert composed(configs, "data.layers=[a, b]").data.layers == ["a", "b"]


def test_a_key_of_another_choice_of_a_group_names_it(configs):
    @dataclass
    class Shards(Data):
        shard_size: int = 8

    def register(store):
        store.store(group="data", name="shards_schema", node=Shards)

    with pytest.raises(ConfigError, match=r"'data\.shard_size=3' is a key of data=shards"):
        compose_config(Small, "pretrain", "small", ["data.shard_size=3"], register, configs)


def test_a_group_may_stand_elsewhere(configs):
    @dataclass
    class Two:
        other: Data = field(default_factory=Data)

        def check(self) -> None:
            self.other.check()

    (configs / "pretrain/two.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /pretrain_schema\n  - /data@other: folder\n"
    )
    words = ["data@other=birds", "other.size=9"]
    assert compose_config(Two, "pretrain", "two", words, configs=configs).other == Data(
        "birds", None, 9
    )
    with pytest.raises(ConfigError, match="did you mean 'birds'"):
        compose_config(Two, "pretrain", "two", ["data@other=brds"], configs=configs)


def test_recipes_of_other_commands_are_named(configs):
    with pytest.raises(ConfigError, match="'default' is a recipe of discover, not of pretrain"):
        compose_config(Small, "pretrain", "default", configs=configs)
    with pytest.raises(ConfigError, match="no recipe 'smal', did you mean 'small'"):
        compose_config(Small, "pretrain", "smal", configs=configs)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.size=7", "data.size=7 must be at least 8"),
        ("data.shares=[0,1]", r"data.shares=[0.0, 1.0] must lie in (0, 1]"),
        ("data.shares=[1]", "data.shares=[1.0] must be 2 values"),
        ("data.shares=[.nan,1]", "must lie in (0, 1]"),
    ],
)
def test_bounds(configs, word, message):
    with pytest.raises(ConfigError) as raised:
        load_config(Small, "pretrain", "small", [word], configs=configs)
    assert message in str(raised.value)


def test_keys_alone_make_a_configuration():
    assert compose_words(Data, ["root=a=b", "size=9"]) == Data(root="a=b", size=9)
    with pytest.raises(ConfigError, match="did you mean 'size'"):
        compose_words(Data, ["siez=9"])


def test_yaml_and_flat_names_hold_the_same(configs):
    config = composed(configs, "data.free.a=1")
    assert flatten(config)["data.size"] == 32 and flatten(config)["data.free.a"] == 1
    assert "size: 32" in to_yaml(config)
