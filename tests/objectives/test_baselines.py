"""The baselines against their formulas, written out; that their state is complete and a teacher
can be copied.
"""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from objectives.by_formula import by_formula
from objectives.tiny_network import CASES, PAIRS, TinyImages, build, config_of, run_step, views_of
from torch import nn

from ssl_parts.errors import ConfigError
from ssl_parts.objectives import (
    METHODS,
    LossInputs,
    MethodName,
    Objective,
    ObjectiveConfig,
    Parts,
    Targets,
    build_method,
)
from ssl_parts.objectives.config import DinoConfig, MocoConfig, ParticleConfig
from ssl_parts.objectives.gathered_norm import GatheredBatchNorm1d, gather_batch_norms
from ssl_parts.objectives.methods.dino import DinoOutputs
from ssl_parts.objectives.methods.particle import ParticleOutputs
from ssl_parts.objectives.network import InstanceOutputs, PartOutputs

BLANK = {"pooled_ND": torch.zeros(8, 1), "map_NDHW": torch.zeros(8, 1)}


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def images(seed):
    """Four pairs; vectors of unit-normal noise."""
    return InstanceOutputs(**BLANK, instance_ND=noise(seed, 8, 6))


def parts(seed):
    """The same with up to three parts per view, fewer in some."""
    valid = torch.arange(3) < torch.tensor([3, 1, 2, 3, 3, 2, 2, 1])[:, None]
    ids = torch.stack(
        [torch.randperm(4, generator=torch.Generator().manual_seed(n % 4))[:3] for n in range(8)]
    )
    return PartOutputs(**BLANK, parts=Parts(noise(seed, 8, 3, 6), ids, valid))


def method_of(name):
    return build_method(config_of(name))


def loss_of(name, student, teacher):
    return method_of(name)(LossInputs(student=student, teacher=teacher))["loss"]


def test_simclr_is_cross_entropy_of_the_other_view_among_all_others():
    student = images(0)
    unit = F.normalize(student.instance_ND, dim=1)
    logits = (unit @ unit.T / 0.2).fill_diagonal_(-torch.inf)
    expected = F.cross_entropy(logits, torch.arange(8).roll(4))
    torch.testing.assert_close(loss_of("simclr", student, student), expected)


def test_moco_takes_the_key_of_the_other_view_against_the_queue_which_takes_the_keys():
    method, student, teacher = method_of("moco"), images(0), images(1)
    queries = student.instance_ND.requires_grad_()
    for _ in range(3):
        bank = method.state_dict()["nt_xent.memory_bank.bank"].clone()
        q, k = F.normalize(queries, dim=1), F.normalize(teacher.instance_ND, dim=1).roll(4, 0)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ bank.T], 1) / 0.2
        loss = method(LossInputs(student=student, teacher=teacher))["loss"]
        torch.testing.assert_close(loss, F.cross_entropy(logits, torch.zeros(8, dtype=torch.long)))
    after = method.state_dict()["nt_xent.memory_bank.bank"]
    for key in k:
        # 16 places, 8 keys a step: each of the same keys twice
        assert (after @ key > 0.9999).sum() == 2


def test_byol_is_minus_the_cosine_to_the_teacher_of_the_other_view():
    student, teacher = images(0), images(1)
    expected = -F.cosine_similarity(
        student.instance_ND, teacher.instance_ND.roll(4, 0), dim=1
    ).mean()
    torch.testing.assert_close(loss_of("byol", student, teacher), expected)


def test_detcon_is_the_formula_on_masks_sampled_in_turn():
    student, teacher = parts(0), parts(1)
    rows = torch.stack([torch.arange(3) % int(n) for n in student.parts.valid_BM.sum(1)])
    assert rows[1].tolist() == [0, 0, 0] and rows[2].tolist() == [0, 1, 0]
    pick = rows[:, :, None].expand(-1, -1, 6)
    q, t = (tuple(o.parts.vectors_BMD.gather(1, pick).chunk(2)) for o in (student, teacher))
    ids = tuple(student.parts.ids_BM.gather(1, rows).chunk(2))
    expected = by_formula(q, t, ids, tuple(torch.ones_like(i, dtype=torch.bool) for i in ids), 0.2)
    assert float(loss_of("detcon", student, teacher)) == pytest.approx(expected, rel=1e-5)


def test_particle_is_the_weighted_sum_of_its_terms_each_by_formula():
    terms = ParticleConfig(part_weight=2.0, instance_weight=0.5, local_negatives=False)
    config = replace(config_of("particle"), particle=terms)
    vectors = [(parts(seed), images(seed)) for seed in (0, 1)]
    student, teacher = (
        ParticleOutputs(**BLANK, parts=p.parts, instance_ND=i.instance_ND) for p, i in vectors
    )
    found = build_method(config)(LossInputs(student=student, teacher=teacher))
    q, t = (tuple(o.parts.vectors_BMD.chunk(2)) for o in (student, teacher))
    ids, valid = (tuple(x.chunk(2)) for x in (student.parts.ids_BM, student.parts.valid_BM))
    part = by_formula(q, t, ids, valid, 0.2, local_negatives=False)
    whole = [tuple(o.instance_ND[:, None].chunk(2)) for o in (student, teacher)]
    one = (torch.zeros(4, 1),) * 2
    instance = by_formula(
        *whole, one, tuple(torch.ones_like(x, dtype=torch.bool) for x in one), 0.2
    )
    assert float(found["part"]) == pytest.approx(part, rel=1e-5)
    assert float(found["instance"]) == pytest.approx(instance, rel=1e-5)
    assert float(found["loss"]) == pytest.approx(2.0 * part + 0.5 * instance, rel=1e-5)
    shared = [
        len(set(a[u].tolist()) & set(b[v].tolist()))
        for a, b, u, v in zip(*ids, *valid, strict=True)
    ]
    assert float(found["shared_parts"]) == sum(shared) / 4
    assert set(found) == {"loss", "part", "shared_parts", "instance"}


def test_dino_by_hand_with_centre_and_temperature():
    method, centre = method_of("dino"), torch.zeros(10)
    for step, (progress, temperature) in enumerate(
        [(0.0, 0.04), (0.1, 0.055), (0.2, 0.07), (0.9, 0.07)]
    ):
        student, teacher = (DinoOutputs(**BLANK, dino_NP=noise(step + at, 8, 10)) for at in (0, 9))
        target = F.softmax((teacher.dino_NP.roll(4, 0) - centre) / temperature, dim=1)
        expected = -(target * F.log_softmax(student.dino_NP / 0.1, dim=1)).sum(1).mean()
        inputs = LossInputs(student=student, teacher=teacher, progress=progress)
        torch.testing.assert_close(method(inputs)["loss"], expected)
        centre = 0.9 * centre + 0.1 * teacher.dino_NP.mean(0)


@pytest.mark.parametrize("name", ["dino", "particle with all terms"])
def test_prototypes_have_unit_length_and_stay_at_the_beginning(name):
    objective, student, teacher = build(name)
    head = student.dino_head
    for progress, held in ((0.0, True), (0.5, False)):
        student.zero_grad()
        run_step(objective, student, teacher, 0, progress=progress)
        objective.method.adjust_gradients(student, progress)
        weights = head.last_layer.parametrizations.weight
        assert (weights.original1.grad is None) is held
        assert head.layers[0].weight.grad is not None
    torch.testing.assert_close(head.last_layer.weight.norm(dim=1), torch.ones(10).double())


@pytest.mark.parametrize("name", CASES)
def test_copies_and_a_restored_state_go_on_alike(name):
    """A teacher can be copied, and what state_dict leaves out would show in the next step."""
    objective, student, teacher = build(name)
    run_step(objective, student, teacher, 0)
    torch.manual_seed(99)  # another random queue to start from
    again = Objective(method_of(name))
    again.method.prepare(student, TinyImages())
    again.load_state_dict(copy.deepcopy(objective.state_dict()))
    expected = run_step(objective, copy.deepcopy(student), copy.deepcopy(teacher), 1)
    torch.testing.assert_close(run_step(again, student, teacher, 1), expected, rtol=0, atol=0)


def equivariant(name):
    return config_of(name).particle.equivariance_weight > 0


@pytest.mark.parametrize("name", [name for name in CASES if not equivariant(name)])
def test_the_gradient_is_that_of_finite_differences(name):
    """Of the encoder's weights, through heads and loss (equivariance holds some of its inputs
    fixed: not here).
    """
    objective, student, teacher = build(name)
    views, method, numbers = views_of(0), objective.method, torch.arange(PAIRS)
    seen = method.encode(teacher, views, predict=False) if method.has_teacher else None

    def loss():
        outputs = method.encode(student, views)
        return copy.deepcopy(objective)(outputs, seen, None, views, 0.5, numbers)["loss"]

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
        ({"temperature": 0.0}, r"objective\.temperature=0\.0 must be above 0; the paper uses 0\.1"),
        ({"samples": 0}, r"objective\.samples=0 must be at least 1"),
        ({"particle": ParticleConfig(queue=-1)}, r"objective\.particle\.queue=-1"),
        ({"moco": MocoConfig(queue=0)}, r"objective\.moco\.queue=0"),
        (
            {"dino": DinoConfig(temperature=[0.04])},
            r"objective\.dino\.temperature=\[0\.04\] must be 2 values",
        ),
        ({"dino": DinoConfig(warmup_share=2.0)}, r"objective\.dino\.warmup_share=2\.0"),
        (
            {"particle": ParticleConfig(equivariance_weight=-1.0)},
            r"objective\.particle\.equivariance_weight=-1\.0",
        ),
        (
            {"particle": ParticleConfig(part_weight=0.0, instance_weight=0.0)},
            r"objective\.particle\.part_weight=0\.0, .*one of these weights must be positive",
        ),
        (
            {"particle": ParticleConfig(dino_weight=1.0), "targets": Targets.student},
            r"dino_weight=1\.0 needs a teacher",
        ),
    ],
)
def test_values_that_cannot_work_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        ObjectiveConfig(**wrong).check()


def test_every_name_has_a_method_and_a_line_that_describes_it():
    assert set(METHODS) == set(MethodName)
    for name in MethodName:
        assert MethodName(name.value) is MethodName[name.value] is name
        assert 10 < len(name.description) < 100


@pytest.mark.parametrize("name", ["detcon", "detcon-s", "particle", "particle of the student"])
def test_only_a_student_with_a_teacher_has_a_predictor(name):
    objective, student, _ = build(name)
    encode = objective.method.encode
    predicted, projected = (
        encode(student, views_of(0), predict=predict).sampled_parts.vectors_BMD
        for predict in (True, False)
    )
    assert torch.equal(predicted, projected) is not objective.method.has_teacher


def test_a_network_of_parts_without_ids_says_so():
    _, student, _ = build("detcon")
    with pytest.raises(ConfigError, match="ids_Nhw=None; pass part ids"):
        student(views_of(0).images_NCHW)
