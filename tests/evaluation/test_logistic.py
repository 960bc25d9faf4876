"""Our L-BFGS against scikit-learn and, for soft and independent targets, against scipy's on the
formula.
"""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from evaluation.logistic import fit_logistic
from ssl_parts.errors import ConfigError, DataError


def problem(n=300, d=20, classes=4, seed=0):
    x, y = make_classification(
        n,
        d,
        n_informative=min(8, d - 2),
        n_classes=classes,
        n_clusters_per_class=1,
        random_state=seed,
    )
    scales = np.exp(np.random.default_rng(seed).normal(size=d))
    return x * scales + 3, y


def objective(weight, bias, x, target, c):
    z = x @ weight.T + bias
    return (
        c * (logsumexp(z, axis=1) * target.sum(1) - (z * target).sum(1)).sum()
        + 0.5 * (weight**2).sum()
    )


@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0, 100.0])
def test_optimum_is_sklearns(c):
    x, y = problem()
    ours = fit_logistic(torch.tensor(x), torch.tensor(y), c)
    theirs = LogisticRegression(C=c, max_iter=100_000, tol=1e-8).fit(x - x.mean(0), y)
    best = objective(theirs.coef_, theirs.intercept_, x - x.mean(0), np.eye(4)[y], c)
    mine = objective(ours.weight_RKD[0].numpy(), ours.bias_RK[0].numpy(), x, np.eye(4)[y], c)
    assert mine == pytest.approx(best, rel=1e-4)
    assert float(ours.objective_R) == pytest.approx(mine, rel=1e-9)
    assert bool(ours.converged_R)


def test_the_certificate_bounds_the_distance_to_the_optimum():
    x, y = problem(seed=1)
    x, y = torch.tensor(x), torch.tensor(y)
    best = fit_logistic(x, y, 1.0, tol=1e-10).objective_R.item()
    for tol in (1e-1, 1e-2, 1e-3):
        rough = fit_logistic(x, y, 1.0, tol=tol)
        assert rough.objective_R.item() / best - 1 <= rough.gap_R.item() <= tol


def test_many_c_at_once_are_each_alone():
    x, y = problem(seed=2)
    x, y = torch.tensor(x), torch.tensor(y)
    together = fit_logistic(x, y, [1e-3, 1.0, 30.0], tol=1e-7)
    for r, c in enumerate([1e-3, 1.0, 30.0]):
        alone = fit_logistic(x, y, c, tol=1e-7)
        assert together.objective_R[r].item() == pytest.approx(alone.objective_R.item(), rel=1e-6)
        torch.testing.assert_close(together.logits(x, r), alone.logits(x), atol=2e-2, rtol=1e-2)


def test_float32_comes_within_the_bar():
    x, y = problem(seed=3)
    exact = fit_logistic(torch.tensor(x), torch.tensor(y), 1.0, tol=1e-9).objective_R.item()
    single = fit_logistic(
        torch.tensor(x, dtype=torch.float32), torch.tensor(y), 1.0
    ).objective_R.item()
    assert single == pytest.approx(exact, rel=1e-4)


def test_soft_targets_against_scipy_on_the_formula():
    x, _ = problem(n=60, d=5)
    target = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    c = 0.7

    def formula(flat):
        return objective(flat[:15].reshape(3, 5), flat[15:], x, target, c)

    best = minimize(
        formula,
        np.zeros(18),
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10**6, "ftol": 1e-14},
    )
    ours = fit_logistic(torch.tensor(x), torch.tensor(target), c, tol=1e-8)
    assert ours.objective_R.item() == pytest.approx(best.fun, rel=1e-6)


def test_independent_targets_are_one_binary_problem_each():
    x, y = problem(n=120, d=6, classes=3)
    planes = np.stack([y == 0, y != 2], 1).astype(float)
    ours = fit_logistic(torch.tensor(x), torch.tensor(planes), 0.5, independent=True, tol=1e-9)
    for k in range(2):
        model = LogisticRegression(C=0.5, tol=1e-9, max_iter=100_000).fit(
            x - x.mean(0), planes[:, k]
        )
        assert ours.weight_RKD[0, k].numpy() == pytest.approx(model.coef_[0], abs=1e-3)


def test_shifted_and_scaled_features_change_what_they_should():
    """A shift is taken up by the intercept: same scores. A constant feature has no weight."""
    x, y = problem(seed=4)
    plain = fit_logistic(torch.tensor(x), torch.tensor(y), 1.0, tol=1e-9)
    shifted = fit_logistic(torch.tensor(x + 50), torch.tensor(y), 1.0, tol=1e-9)
    torch.testing.assert_close(
        plain.logits(torch.tensor(x)), shifted.logits(torch.tensor(x + 50)), atol=1e-2, rtol=1e-2
    )
    constant = np.concatenate([x, np.full((len(x), 1), 7.0)], 1)
    assert (
        fit_logistic(torch.tensor(constant), torch.tensor(y), 1.0).weight_RKD[0, :, -1].abs().max()
        < 1e-6
    )


def test_errors_name_what_is_wrong():
    x, y = torch.randn(10, 3), torch.arange(10) % 2
    with pytest.raises(ConfigError, match="C=0"):
        fit_logistic(x, y, 0.0)
    with pytest.raises(DataError, match="not finite"):
        fit_logistic(x.masked_fill(x > 1e-3, torch.nan), y, 1.0)
    with pytest.raises(DataError, match="do not fit"):
        fit_logistic(x, y[:5], 1.0)


def test_running_out_of_iterations_is_said():
    x, y = problem()
    assert not bool(fit_logistic(torch.tensor(x), torch.tensor(y), 100.0, max_iter=3).converged_R)
