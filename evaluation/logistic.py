"""L2-regularised logistic regression by L-BFGS in torch, many values of C at once, on any device.

The optimum is scikit-learn's: for each C, minimise C * sum_n loss_n + 0.5 * ||W||^2 with an
unpenalised intercept.
Two exact changes of variable make it converge fast: features are centred (the intercept absorbs
the shift) and divided by their scale (the penalty absorbs the factor). Logits are linear in the
parameters, so a line search costs no matrix product: an iteration is two products however many
steps the search tries. The penalty makes the objective strongly convex, so the gradient g bounds
what is left to gain, sum g^2 / (2 ridge); that certificate stops the iteration.

Shapes: R problems (values of C), N samples, D features, K classes, H history.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.encoders.finite import first_not_finite
from ssl_parts.errors import ConfigError, DataError

HISTORY = 10
# iterations after which logits are computed afresh, so that rounding does not pile up
REFRESH = 25


@dataclass(frozen=True)
class LogisticFit:
    """Solutions for R values of C, in the units of the features that were passed in."""

    weight_RKD: Tensor
    bias_RK: Tensor
    objective_R: Tensor  # C * sum of losses + 0.5 * ||W||^2, float64
    gap_R: Tensor  # certified bound on (objective - optimum) / objective, float64
    converged_R: Tensor  # bool: gap <= tol
    iterations: int

    def logits(self, x_ND: Tensor, problem: int = 0) -> Tensor:
        """(N, K) scores of one of the problems."""
        return F.linear(x_ND, self.weight_RKD[problem], self.bias_RK[problem])


def fit_logistic(
    x_ND: Tensor,
    targets: Tensor,
    c: float | Sequence[float] = 1.0,
    *,
    classes: int | None = None,
    independent: bool = False,
    max_iter: int = 2000,
    tol: float = 1e-4,
) -> LogisticFit:
    """Fit to convergence.

    Args:
        x_ND: features; their dtype and device are used throughout.
        targets: long (N,) class indices, or float (N, K) target probabilities (soft labels).
        c: inverse strength(s) of the L2 penalty, scikit-learn's C.
        classes: K, needed only when the highest classes have no sample.
        independent: False: softmax over K classes; True: K independent binary problems (sigmoid,
            BCE summed over K).
        max_iter, tol: stop when the objective is certified to be within the share tol of its
            optimum.

    Raises:
        DataError: non-finite features, or shapes that do not fit.
        ConfigError: a C that is not positive.
    """
    c_R = torch.as_tensor(
        [c] if isinstance(c, int | float) else list(c), dtype=x_ND.dtype, device=x_ND.device
    )
    if not (len(c_R) and bool((c_R > 0).all())):
        raise ConfigError(f"C={c} must be positive")
    _check_features(x_ND, targets)
    target_NK = _soft(targets, classes).to(x_ND)
    center_D, scale_D = x_ND.mean(0), x_ND.std(0, correction=0)
    scale_D = torch.where(scale_D > 1e-12, scale_D, torch.ones_like(scale_D))
    problem = _Problem(
        (x_ND - center_D) / scale_D, target_NK, c_R, scale_D.square().reciprocal(), independent
    )
    theta, gap_R, objective_R, iterations = _lbfgs(problem, max_iter, tol)
    weight_RKD = theta[..., :-1] / scale_D
    return LogisticFit(
        weight_RKD,
        theta[..., -1] - weight_RKD @ center_D,
        objective_R * c_R.double() * len(x_ND),
        gap_R,
        gap_R <= tol,
        iterations,
    )


def _check_features(x_ND: Tensor, targets: Tensor) -> None:
    if x_ND.ndim != 2 or len(x_ND) != len(targets) or not len(x_ND):
        raise DataError(
            f"features {tuple(x_ND.shape)} and targets {tuple(targets.shape)} do not fit each other"
        )
    if first_not_finite(x_ND) is not None:
        raise DataError("features are not finite; the encoder that made them has diverged")


def _soft(targets: Tensor, classes: int | None) -> Tensor:
    if targets.ndim == 2:
        return targets
    return F.one_hot(targets.long(), classes or int(targets.max()) + 1)


class _Problem:
    """Mean loss plus penalty / (C N) for all values of C; parameters are (R, K, D + 1), the last
    column the bias.
    """

    def __init__(
        self, x_ND: Tensor, target_NK: Tensor, c_R: Tensor, penalty_D: Tensor, independent: bool
    ) -> None:
        self.x_ND, self.target_NK, self.independent = x_ND, target_NK, independent
        self.ridge_R1D = penalty_D * (1 / (c_R * len(x_ND)))[:, None, None]

    def zeros(self) -> Tensor:
        return self.x_ND.new_zeros(
            len(self.ridge_R1D), self.target_NK.shape[1], self.x_ND.shape[1] + 1
        )

    def logits(self, theta: Tensor) -> Tensor:
        """(R, N, K), one matrix product for all problems."""
        r, k, _ = theta.shape
        flat = self.x_ND @ theta[..., :-1].reshape(r * k, -1).T
        return flat.reshape(-1, r, k).transpose(0, 1) + theta[:, None, :, -1]

    def loss(self, logits_RNK: Tensor) -> Tensor:
        """Mean loss (R,), summed in float64 so that a line search can see small gains."""
        dot_RN = (logits_RNK * self.target_NK).sum(-1)
        if self.independent:
            top_RN = F.softplus(logits_RNK).sum(-1)
        else:
            top_RN = torch.logsumexp(logits_RNK, -1) * self.target_NK.sum(-1)
        return (top_RN - dot_RN).mean(-1, dtype=torch.float64)

    def residual(self, logits_RNK: Tensor) -> Tensor:
        """d(mean loss) / d(logits), (R, N, K)."""
        if self.independent:
            p_RNK = torch.sigmoid(logits_RNK)
        else:
            p_RNK = torch.softmax(logits_RNK, -1) * self.target_NK.sum(-1, keepdim=True)
        return (p_RNK - self.target_NK) / len(self.x_ND)

    def gradient(self, theta: Tensor, residual_RNK: Tensor, ridge: Tensor) -> Tensor:
        r, n, k = residual_RNK.shape
        weight = residual_RNK.transpose(0, 1).reshape(n, r * k).T @ self.x_ND
        return torch.cat(
            [weight.reshape(r, k, -1) + ridge * theta[..., :-1], residual_RNK.sum(1)[..., None]], -1
        )

    def objective(self, theta: Tensor, logits_RNK: Tensor, ridge: Tensor) -> Tensor:
        return self.loss(logits_RNK) + 0.5 * _ridge_dot(theta, theta, ridge)

    def inverse_curvature(self) -> Tensor:
        """Diagonal of the inverse Hessian at zero, (R, 1, D + 1): where L-BFGS starts from."""
        k = self.target_NK.shape[1]
        at_zero = 0.25 if self.independent else (1 - 1 / k) / k if k > 1 else 1.0
        padded = F.pad(self.ridge_R1D, (0, 1))
        return 1 / (padded + at_zero)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1, dtype=torch.float64)


def _ridge_dot(a: Tensor, b: Tensor, ridge: Tensor) -> Tensor:
    return (a[..., :-1] * b[..., :-1] * ridge).flatten(1).sum(1, dtype=torch.float64)


def _gap(gradient: Tensor, ridge: Tensor, start: Tensor) -> Tensor:
    """How far above its optimum the objective can be: g^2 / (2 ridge); for the bias, which has
    none, the curvature.
    """
    weight = (gradient[..., :-1].double().square() / ridge).flatten(1).sum(1)
    bias = (gradient[..., -1].double().square() * start[..., -1]).flatten(1).sum(1)
    return 0.5 * (weight + bias)


@dataclass
class _State:
    """What travels through the iterations; every tensor has R (the problems still open) as its
    first dimension.
    """

    index: Tensor
    theta: Tensor
    logits: Tensor
    gradient: Tensor
    ridge: Tensor
    start: Tensor
    stalled: Tensor
    memory: list[tuple[Tensor, Tensor, Tensor]]

    def keep(self, mask: Tensor) -> "_State":
        """The problems of `mask` alone."""
        return _State(
            self.index[mask],
            self.theta[mask],
            self.logits[mask],
            self.gradient[mask],
            self.ridge[mask],
            self.start[mask],
            self.stalled[mask],
            [(s[mask], y[mask], rho[mask]) for s, y, rho in self.memory],
        )


def _begin(problem: _Problem) -> _State:
    theta, ridge = problem.zeros(), problem.ridge_R1D
    logits, index = problem.logits(theta), torch.arange(len(theta), device=theta.device)
    gradient = problem.gradient(theta, problem.residual(logits), ridge)
    return _State(
        index,
        theta,
        logits,
        gradient,
        ridge,
        problem.inverse_curvature(),
        torch.zeros_like(index).bool(),
        [],
    )


def _lbfgs(problem: _Problem, max_iter: int, tol: float) -> tuple[Tensor, Tensor, Tensor, int]:
    """All problems in step; the ones that are done leave the batch. Returns theta, relative gap,
    objective, steps.
    """
    state = _begin(problem)
    theta_all, count = problem.zeros(), len(state.index)
    gap_all, objective_all = torch.zeros(2, count, dtype=torch.float64, device=theta_all.device)
    iteration = 0
    for iteration in range(max_iter + 1):
        objective = problem.objective(state.theta, state.logits, state.ridge)
        gap = _gap(state.gradient, state.ridge, state.start) / objective
        done = (gap <= tol) | state.stalled | (iteration == max_iter)
        if bool(done.any()):
            where = state.index[done]
            theta_all[where], gap_all[where], objective_all[where] = (
                state.theta[done],
                gap[done],
                objective[done],
            )
            state = state.keep(~done)
            if not len(state.index):
                break
        _advance(problem, state, refresh=iteration % REFRESH == REFRESH - 1)
    return theta_all, gap_all, objective_all, iteration


def _advance(problem: _Problem, state: _State, refresh: bool) -> None:
    direction = _direction(state.gradient, state.memory, state.start)
    step, state.stalled, moved = _line_search(problem, state, direction)
    change = step.to(direction)[:, None, None] * direction
    state.theta = state.theta + change
    state.logits = problem.logits(state.theta) if refresh else moved
    old = state.gradient
    state.gradient = problem.gradient(state.theta, problem.residual(state.logits), state.ridge)
    state.memory = _remember(state.memory, change, state.gradient - old)


def _remember(
    memory: list[tuple[Tensor, Tensor, Tensor]], s: Tensor, y: Tensor
) -> list[tuple[Tensor, Tensor, Tensor]]:
    curvature = _dot(s, y)
    usable = curvature > 1e-12 * _dot(y, y).clamp_min(1e-300)
    rho = torch.where(
        usable, 1 / curvature.where(usable, torch.ones_like(curvature)), torch.zeros_like(curvature)
    )
    return [*memory, (s, y, rho)][-HISTORY:]


def _direction(
    gradient: Tensor, memory: list[tuple[Tensor, Tensor, Tensor]], start: Tensor
) -> Tensor:
    """Two-loop recursion (Nocedal & Wright, algorithm 7.4); a pair without curvature has rho 0 and
    drops out.
    """
    q, alphas = gradient.clone(), []
    for s, y, rho in reversed(memory):
        alpha = rho * _dot(s, q)
        q = q - alpha.to(q)[:, None, None] * y
        alphas.append(alpha)
    scale = torch.ones_like(_dot(gradient, gradient))
    for _, y, rho in memory:  # the newest usable pair sets the scale
        usable = rho > 0
        scale = torch.where(
            usable, 1 / (rho * _dot(y, start * y)).where(usable, torch.ones_like(rho)), scale
        )
    q = start * q * scale.to(q)[:, None, None]
    for (s, y, rho), alpha in zip(memory, reversed(alphas)):
        q = q + (alpha - rho * _dot(y, q)).to(q)[:, None, None] * s
    return -q


def _line_search(
    problem: _Problem, state: _State, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Weak Wolfe conditions by bracketing, batched. Returns steps (R,), who could not move, logits
    at the steps.
    """
    slope0 = _dot(state.gradient, direction)
    logits_d = problem.logits(direction)
    cross = _ridge_dot(state.theta, direction, state.ridge)
    square = _ridge_dot(direction, direction, state.ridge)
    value0 = problem.loss(state.logits)
    step, low = torch.ones_like(slope0), torch.zeros_like(slope0)
    high = torch.full_like(slope0, torch.inf)
    stalled = slope0 >= 0  # rounding has eaten the descent: nothing more to gain
    done = stalled.clone()
    for _ in range(30):
        moved = state.logits + step.to(logits_d)[:, None, None] * logits_d
        gain = problem.loss(moved) - value0 + step * cross + 0.5 * step.square() * square
        slope = _dot(problem.residual(moved), logits_d) + cross + step * square
        too_far = gain > 1e-4 * step * slope0
        too_near = ~too_far & (slope < 0.9 * slope0)
        done = done | ~(too_far | too_near)
        if bool(done.all()):
            break
        high = torch.where(too_far & ~done, step, high)
        low = torch.where(too_near & ~done, step, low)
        step = torch.where(done, step, torch.where(high.isinf(), 2 * step, 0.5 * (low + high)))
    stalled = stalled | (~done & (low == 0))
    step = torch.where(stalled, torch.zeros_like(step), torch.where(done, step, low))
    return step, stalled, state.logits + step.to(logits_d)[:, None, None] * logits_d
