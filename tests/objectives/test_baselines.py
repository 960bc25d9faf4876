"""The baselines against their formulas, written out; that their state is complete and a teacher
can be copied.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from objectives.by_formula import by_formula
from objectives.tiny_network import CASES, build, config_of, run_step, views_of
from torch import nn

from ssl_parts.errors import ConfigError
from ssl_parts.objectives import METHODS, ObjectiveConfig, Outputs, Targets
from ssl_parts.objectives.gathered_norm import GatheredBatchNorm1d, gather_batch_norms


def outputs(seed, channels=6, parts=False):
    """Four pairs; vectors of unit-normal noise."""
    g = torch.Generator().manual_seed(seed)
    blank = torch.zeros(8, 1)
    if not parts:
        return Outputs(blank, blank, instance_ND=torch.randn(8, channels, generator=g))
    valid = torch.arange(3) < torch.tensor([3, 1, 2, 3, 3, 2, 2, 1])[:, None]
    ids = torch.stack(
        [torch.randperm(4, generator=torch.Generator().manual_seed(n % 4))[:3] for n in range(8)]
    )
    return Outputs(
        blank, blank, part_NMD=torch.randn(8, 3, channels, generator=g), ids_NM=ids, valid_NM=valid
    )


def loss_of(name, student, teacher, progress=0.5):
    return METHODS[CASES[name]["method"]](config_of(name))(student, teacher, None, progress)["loss"]


def test_simclr_is_cross_entropy_of_the_other_view_among_all_others():
    student = outputs(0)
    unit = F.normalize(student.instance_ND, dim=1)
    logits = (unit @ unit.T / 0.2).fill_diagonal_(-torch.inf)
    expected = F.cross_entropy(logits, torch.arange(8).roll(4))
    torch.testing.assert_close(loss_of("simclr", student, student), expected)


def test_moco_takes_the_key_of_the_other_view_against_the_queue_which_takes_the_keys():
    method, student, teacher = METHODS["moco"](config_of("moco")), outputs(0), outputs(1)
    queries = student.instance_ND.requires_grad_()
    for _ in range(3):
        bank = method.state_dict()["nt_xent.memory_bank.bank"].clone()
        q, k = F.normalize(queries, dim=1), F.normalize(teacher.instance_ND, dim=1).roll(4, 0)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ bank.T], 1) / 0.2
        loss = method(student, teacher, None, 0.0)["loss"]
        torch.testing.assert_close(loss, F.cross_entropy(logits, torch.zeros(8, dtype=torch.long)))
    after = method.state_dict()["nt_xent.memory_bank.bank"]
    for key in k:
        # 16 places, 8 keys a step: each of the same keys twice
        assert (after @ key > 0.9999).sum() == 2


def test_byol_is_minus_the_cosine_to_the_teacher_of_the_other_view():
    student, teacher = outputs(0), outputs(1)
    expected = -F.cosine_similarity(
        student.instance_ND, teacher.instance_ND.roll(4, 0), dim=1
    ).mean()
    torch.testing.assert_close(loss_of("byol", student, teacher), expected)


def test_detcon_is_the_formula_on_masks_sampled_in_turn():
    student, teacher = outputs(0, parts=True), outputs(1, parts=True)
    rows = torch.stack([torch.arange(3) % int(n) for n in student.valid_NM.sum(1)])
    assert rows[1].tolist() == [0, 0, 0] and rows[2].tolist() == [0, 1, 0]
    pick = rows[:, :, None].expand(-1, -1, 6)
    q, t = (tuple(o.part_NMD.gather(1, pick).chunk(2)) for o in (student, teacher))
    ids = tuple(student.ids_NM.gather(1, rows).chunk(2))
    expected = by_formula(q, t, ids, tuple(torch.ones_like(i, dtype=torch.bool) for i in ids), 0.2)
    assert float(loss_of("detcon", student, teacher)) == pytest.approx(expected, rel=1e-5)


def test_dino_by_hand_with_centre_and_temperature():
    method, centre = METHODS["dino"](config_of("dino")), torch.zeros(10)
    for step, (progress, temperature) in enumerate(
        [(0.0, 0.04), (0.1, 0.055), (0.2, 0.07), (0.9, 0.07)]
    ):
        student, teacher = outputs(step, 10), outputs(step + 9, 10)
        target = F.softmax((teacher.instance_ND.roll(4, 0) - centre) / temperature, dim=1)
        expected = -(target * F.log_softmax(student.instance_ND / 0.1, dim=1)).sum(1).mean()
        torch.testing.assert_close(method(student, teacher, None, progress)["loss"], expected)
        centre = 0.9 * centre + 0.1 * teacher.instance_ND.mean(0)


@pytest.mark.parametrize("name", ["dino", "particle with all terms"])
def test_prototypes_have_unit_length_and_stay_at_the_beginning(name):
    objective, student, teacher = build(name)
    head = student.projector if name == "dino" else student.dino_head
    for progress, held in ((0.0, True), (0.5, False)):
        student.zero_grad()
        run_step(objective, student, teacher, 0, progress=progress)
        objective.before_update(student, progress)
        weights = head.last_layer.parametrizations.weight
        assert (weights.original1.grad is None) is held
        assert head.layers[0].weight.grad is not None
    torch.testing.assert_close(head.last_layer.weight.norm(dim=1), torch.ones(10))


@pytest.mark.parametrize("name", CASES)
def test_copies_and_a_restored_state_go_on_alike(name):
    """A teacher can be copied, and what state_dict leaves out would show in the next step."""
    objective, student, teacher = build(name)
    run_step(objective, student, teacher, 0)
    torch.manual_seed(99)  # another random queue to start from
    again = type(objective)(config_of(name))
    again.load_state_dict(copy.deepcopy(objective.state_dict()))
    expected = run_step(objective, copy.deepcopy(student), copy.deepcopy(teacher), 1)
    torch.testing.assert_close(run_step(again, student, teacher, 1), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "name", [name for name in CASES if "equivariance_weight" not in CASES[name]]
)
def test_the_gradient_is_that_of_finite_differences(name):
    """Of the encoder's weights, through heads and loss (equivariance holds some of its inputs
    fixed: not here).
    """
    objective, student, teacher = build(name)
    student, teacher = student.double(), teacher.double()
    views = views_of(0)
    inputs = (views.images_NCHW.double(), views.ids_Ngg, views.priority_NK.double())
    seen = teacher(*inputs, predict=False) if objective.has_teacher else None

    def loss():
        return copy.deepcopy(objective)(student(*inputs), seen, None, views, 0.5)["loss"]

    weight = student.encoder.conv.weight
    direction = torch.randn(
        weight.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    (gradient,) = torch.autograd.grad(loss(), weight)
    with torch.no_grad():
        moved = []
        for step in (1e-3, -2e-3):
            weight += step * direction
            moved.append(float(loss()))
    expected = float((gradient * direction).sum())
    assert (moved[0] - moved[1]) / 2e-3 == pytest.approx(expected, rel=0.02, abs=3e-3)


def test_gathered_norms_replace_torchs_and_equal_them_on_one_process():
    head = gather_batch_norms(
        nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.BatchNorm1d(5)), nn.ReLU())
    )
    norm, own = head[1][0], nn.BatchNorm1d(5)
    assert isinstance(norm, GatheredBatchNorm1d)
    x = torch.randn(6, 5)
    torch.testing.assert_close(norm(x), own(x))
    torch.testing.assert_close(norm.running_var, own.running_var)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"method": "swav"},
            r"objective\.method='swav' is not one of particle, simclr, moco, byol, dino, detcon",
        ),
        ({"queue": -1}, r"objective\.queue=-1"),
        ({"moco_queue": 0}, r"objective\.moco_queue=0"),
        ({"dino_temperature": [0.04]}, r"objective\.dino_temperature=\[0\.04\]: two positive"),
        ({"dino_warmup_share": 2.0}, r"objective\.dino_warmup_share=2\.0"),
        ({"equivariance_weight": -1.0}, r"objective\.equivariance_weight=-1\.0"),
        ({"dino_weight": 1.0, "targets": Targets.student}, r"dino_weight=1\.0 needs a teacher"),
    ],
)
def test_values_that_cannot_work_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        ObjectiveConfig(**wrong).check()
