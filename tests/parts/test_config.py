"""Groups of configs/parts/ against the dataclasses, what the command line may say, and bounds."""

import ast
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pytest

from ssl_parts.configuration.compose import compose_config, flatten
from ssl_parts.configuration.moved import MOVED, RENAMED
from ssl_parts.errors import ConfigError
from ssl_parts.parts.config import (
    FOREGROUND_CONFIGS,
    METHOD_CONFIGS,
    CosegmentConfig,
    CrfConfig,
    DatasetConfig,
    FelzenszwalbConfig,
    ForegroundConfig,
    MiningConfig,
    NoForegroundConfig,
    PartsConfig,
    PerImageConfig,
    SaliencyConfig,
    SlicConfig,
    VotesConfig,
    register_groups,
    restore_config,
)
from ssl_parts.parts.foreground.build import FOREGROUNDS
from ssl_parts.parts.methods.build import METHODS
from ssl_parts.recipes.schemas import Config

REPO = Path(__file__).resolve().parents[2]
GROUPS, ROOM = REPO / "configs" / "parts", REPO / "ssl_parts" / "parts"
RECIPES = {
    "published": PerImageConfig(
        stages=["stem", "layer1", "layer2", "layer3"],
        k=15,
        iterations=500,
        foreground=NoForegroundConfig(),
    ),
    "upm": PerImageConfig(position=1.0, size=56, k=4, foreground=MiningConfig()),
}


@dataclass
class Only:
    """A command that reads nothing but parts."""

    parts: PartsConfig = field(default_factory=PartsConfig)

    def check(self):
        self.parts.check()


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """The repository's groups, and a recipe of that command."""
    folder = tmp_path_factory.mktemp("configs")
    shutil.copytree(GROUPS, folder / "parts")
    (folder / "only").mkdir()
    recipe = "# @package _global_\ndefaults:\n  - /only_schema\n  - /parts: per_image\n  - _self_\n"
    (folder / "only" / "default.yaml").write_text(recipe)
    return folder


@pytest.fixture
def compose(configs):
    return lambda *words: (
        compose_config(Only, "only", "default", words, register_groups, configs).parts
    )


@pytest.mark.parametrize("name", METHOD_CONFIGS)
def test_the_file_of_a_method_is_its_dataclass(name, compose):
    assert compose(f"parts={name}") == METHOD_CONFIGS[name]()


@pytest.mark.parametrize("name", FOREGROUND_CONFIGS)
def test_the_file_of_a_foreground_is_its_dataclass(name, compose):
    wanted = DatasetConfig(foreground=FOREGROUND_CONFIGS[name]())
    assert compose("parts=dataset", f"parts/foreground={name}") == wanted


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_methods_with_other_values(name, compose):
    assert compose(f"parts={name}") == RECIPES[name]


def test_every_file_is_tested_and_every_class_has_an_implementation():
    assert {p.stem for p in GROUPS.glob("*.yaml")} == {*METHOD_CONFIGS, *RECIPES}
    assert {p.stem for p in GROUPS.glob("foreground/*.yaml")} == {*FOREGROUND_CONFIGS}
    assert set(METHODS) == set(METHOD_CONFIGS.values())
    assert set(FOREGROUNDS) == set(FOREGROUND_CONFIGS.values())


def test_words_of_the_command_line(compose):
    words = ["parts=dataset", "parts.k=16", "parts/foreground=saliency"]
    assert compose(*words, "parts.foreground.agreement=0.5", "parts.restarts=5") == DatasetConfig(
        k=16, restarts=5, foreground=SaliencyConfig(agreement=0.5)
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["parts.restarts=3"], "is a key of parts=cosegment and parts=dataset; choose it first"),
        (["parts=dataset", "parts.polish=3"], "is a key of parts=per_image"),
        (["parts=slic", "parts.stages=[a]"], "is a key of parts=cosegment and parts=dataset and"),
        (["parts=dataset", "parts.group=30"], "is a key of parts=cosegment"),
        (["parts.crf.near=1"], "is a key of parts=cosegment"),
        (["parts.foreground.agreement=0.5"], "is a key of parts/foreground=saliency"),
        (["parts/foreground=saliency", "parts.foreground.clusters=[4]"], "parts/foreground=votes"),
        (["parts=published", "parts.foreground.size=8"], "parts/foreground=component and"),
        (
            ["parts=per_image", "parts.dataset.restarts=5"],
            "is a key of parts=cosegment and parts=dataset; choose it first",
        ),
        (["parts.reduction=pca"], "parts.pca_dims=96 is what reduction=pca was"),
        (["parts.sise=3"], "unknown key .* did you mean 'parts.size'"),
        (
            ["parts/foreground=vote"],
            "no such file in configs/parts/foreground, did you mean 'votes'",
        ),
    ],
)
def test_keys_of_other_methods_do_not_exist(words, message, compose):
    with pytest.raises(ConfigError, match=message):
        compose(*words)


def test_moved_keys_name_keys_that_exist():
    known = {f"parts.{key}" for kind in METHOD_CONFIGS.values() for key in flatten(kind())}
    known |= {f"parts.foreground.{k}" for f in FOREGROUND_CONFIGS.values() for k in flatten(f())}
    known |= set(flatten(Config()))
    for old, sentence in MOVED.items():
        named = re.findall(r"(?<!\S)(?:parts|objective|evaluation)\.[\w.]*\w", sentence)
        assert old not in known
        assert set(named) <= known, (old, named)
    for old, new in RENAMED.items():
        assert old not in known
        assert new and set(new) <= known, (old, new)


def test_the_default_recipe_has_few_keys(compose):
    assert len(flatten(compose())) == 24
    assert len(flatten(compose("parts=slic"))) == 8


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            PerImageConfig(method="dataset"),
            "parts.method='dataset' does not choose .* use parts=NAME",
        ),
        (
            PerImageConfig(foreground=VotesConfig(method="none")),
            "parts.foreground.method='none' does not choose .* use parts/foreground=NAME",
        ),
        (PartsConfig(), "no method is chosen for parts: use parts=NAME"),
        (PerImageConfig(foreground=ForegroundConfig()), "no method is chosen for parts.foreground"),
        (PerImageConfig(k=0), "parts.k=0 must be at least 1"),
        (PerImageConfig(k=256), "k is at most 255"),
        (PerImageConfig(k=257, foreground=NoForegroundConfig()), "k is at most 256"),
        (PerImageConfig(k=10, size=3), "9 points"),
        (PerImageConfig(seed=-1), "parts.seed=-1"),
        (PerImageConfig(features="color"), "parts.features='color' .*did you mean 'colour'"),
        (PerImageConfig(polish=2), "parts.polish=2 needs parts.pca_dims"),
        (PerImageConfig(foreground=VotesConfig(least_share=0)), "parts.foreground.least_share=0"),
        (PerImageConfig(foreground=VotesConfig(clusters=[])), r"clusters=\[\]"),
        (PerImageConfig(foreground=VotesConfig(clusters=[8, 1])), r"clusters=\[8, 1\]"),
        (DatasetConfig(elbow=1.5), "parts.elbow=1.5"),
        (DatasetConfig(backend="fais"), "did you mean 'faiss'"),
        (CosegmentConfig(crf=CrfConfig(certainty=1.0)), "parts.crf.certainty=1.0"),
        (CosegmentConfig(crf=CrfConfig(reach=0)), "parts.crf.reach=0"),
        (SlicConfig(sigma=-1), "parts.sigma=-1"),
        (SlicConfig(compactness=0), "parts.compactness=0"),
        (FelzenszwalbConfig(least_share=1), "parts.least_share=1"),
    ],
)
def test_values_that_cannot_work_are_named(config, message):
    with pytest.raises(ConfigError, match=message):
        config.check()


@pytest.mark.parametrize("kind", METHOD_CONFIGS.values(), ids=METHOD_CONFIGS)
def test_a_configuration_is_read_back_from_its_values(kind):
    config = kind(k=3, foreground=VotesConfig(sample=9))
    config.check()
    values = asdict(config)
    assert restore_config(values) == config
    del values["batch"]  # part stores do not keep it
    assert restore_config(values) == config


@pytest.mark.parametrize(
    "change",
    [
        {"method": "magic"},
        {"foreground": {"method": "sky"}},
        {"foreground": {}},
        {"foreground": "votes"},
        {"k": "many"},
        {"k": 0},
        {"reduction": "exact"},
        {"stages": ["${oc.env:HOME}"]},
    ],
)
def test_stored_values_that_cannot_be_are_refused(change):
    with pytest.raises(ConfigError, match="stored configuration of part discovery"):
        restore_config(asdict(PerImageConfig()) | change)
    with pytest.raises(ConfigError):
        restore_config({})


def test_who_needs_an_encoder():
    assert PerImageConfig().needs_encoder and not SlicConfig().needs_encoder
    assert SlicConfig(foreground=VotesConfig()).needs_encoder
    assert not replace(
        PerImageConfig(), features="colour", foreground=NoForegroundConfig()
    ).needs_encoder
    assert PerImageConfig(stages=["a"], foreground=VotesConfig(stages=["b"])).named_stages == [
        "a",
        "b",
    ]


def test_schemas_are_read_without_torch():
    code = (
        "import sys, ssl_parts.parts, ssl_parts.parts.config as c; c.PerImageConfig().check(); "
        "assert not {'torch', 'numpy', 'faiss', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_faiss_and_scikit_image_are_imported_where_they_are_used():
    for path in ROOM.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"faiss", "skimage"}, path
