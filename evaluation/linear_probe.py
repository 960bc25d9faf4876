"""Linear probe: L2-regularised multinomial logistic regression on frozen features, run to
convergence, as in the released code of PARTICLE (arXiv 2309.13822; docs/method.md, section 1.6).

scikit-learn's lbfgs on a CPU, our batched L-BFGS on a GPU and for large sets; both have one
optimum.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from evaluation.config import C_VALUES
from evaluation.logistic import fit_logistic
from evaluation.metrics import bootstrap_interval, per_class_mean, topk_hits
from evaluation.splits import few_label_indices
from ssl_parts.encoders.finite import first_not_finite
from ssl_parts.errors import ConfigError, DataError

__all__ = ["C_VALUES", "ProbeResult", "Sweep", "few_label_indices", "linear_probe", "sweep_c"]

# largest gradient entry, and certified relative distance from the optimum. At scikit-learn's own
# 1e-4 lbfgs stops up to 4 times above the minimum where classes separate
TOLERANCES = {"sklearn": 1e-6, "torch": 1e-4}
SKLEARN_LIMIT = 50_000  # samples; above it our solver is used on a CPU too
# logits of all values of C that are solved together, a few copies of which exist
CPU_LOGITS, GPU_LOGITS = 2**24, 2**29


@dataclass(frozen=True)
class ProbeResult:
    """Accuracies are fractions of the test images.

    interval: 95 % percentile bootstrap over test images. hits: bool (N,) right or wrong, for
    paired comparisons.
    """

    accuracy: float
    top5: float
    per_class_mean: float
    c: float
    converged: bool
    n_train: int
    n_test: int
    interval: tuple[float, float]
    objective: float
    hits: np.ndarray


@dataclass(frozen=True)
class Sweep:
    """Accuracy on validation images for each C; `c` is the best, the smallest one where several
    are equal.
    """

    c: float
    values: tuple[float, ...]
    accuracies: tuple[float, ...]


def linear_probe(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    c: float = 1.0,
    *,
    standardize: bool = False,
    solver: str = "auto",
    device: str | torch.device = "cpu",
    max_iter: int = 10_000,
    tol: float | None = None,
    seed: int = 0,
) -> ProbeResult:
    """Fit on train, report on test.

    Args:
        train_x, test_x: (N, D) frozen features. train_y, test_y: (N,) class ids, in any numbering.
        c: minimised is c * sum of losses + 0.5 * ||W||^2, intercept free; 1 in the paper.
        standardize: zero mean and unit deviation by the training features; raw otherwise.
        solver: "sklearn", "torch" or "auto" (sklearn on a CPU up to 50,000 samples).
        device: of the torch solver.
        max_iter, tol: of the solver; None takes that of `TOLERANCES`.
        seed: of the bootstrap; nothing else is random.

    Raises:
        DataError: features or labels that a probe cannot use. ConfigError: a bad C or solver.

    Example:
        >>> labels = np.arange(60) % 3
        >>> features = np.eye(3)[labels]
        >>> linear_probe(features[:30], labels[:30], features[30:], labels[30:]).accuracy
        1.0
    """
    problem = _prepare(train_x, train_y, test_x, test_y, standardize)
    weights, converged, objective = _fit(problem, [c], solver, device, max_iter, tol)
    scores = problem.test_x @ weights[0][0].T + weights[0][1]
    hits, top5 = (topk_hits(scores, problem.test_y, k) for k in (1, 5))
    return ProbeResult(
        accuracy=float(hits.mean()),
        top5=float(top5.mean()),
        per_class_mean=per_class_mean(hits, problem.test_y),
        c=float(c),
        converged=converged[0],
        n_train=len(problem.train_x),
        n_test=len(hits),
        interval=bootstrap_interval(hits, seed=seed),
        objective=objective[0],
        hits=hits,
    )


def sweep_c(
    train_x: np.ndarray,
    train_y: np.ndarray,
    val_x: np.ndarray,
    val_y: np.ndarray,
    values: Sequence[float] = C_VALUES,
    *,
    standardize: bool = False,
    solver: str = "torch",
    device: str | torch.device = "cpu",
    max_iter: int = 1000,
    tol: float = 1e-3,
) -> Sweep:
    """Choose C on validation images. It never sees a test image: give it a split of the training
    images.

    Args: as `linear_probe`. All values are solved together by default; the largest ones of
        separable features would run for ever and stop at max_iter, as in the DINOv2 protocol.

    Raises:
        as `linear_probe`.
    """
    problem = _prepare(train_x, train_y, val_x, val_y, standardize)
    weights, _, _ = _fit(problem, values, solver, device, max_iter, tol)
    hits = [topk_hits(problem.test_x @ w.T + b, problem.test_y, 1).mean() for w, b in weights]
    ordered = sorted(zip(hits, values), key=lambda pair: (-pair[0], pair[1]))
    return Sweep(float(ordered[0][1]), tuple(map(float, values)), tuple(map(float, hits)))


@dataclass(frozen=True)
class _Prepared:
    """Checked arrays; labels are 0..K-1 in the order of the training classes. Features may be
    rotated (`row_space`).
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def _prepare(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    standardize: bool,
) -> _Prepared:
    train_x, train_y = check_labelled(train_x, train_y, "train")
    test_x, test_y = check_labelled(test_x, test_y, "test")
    if train_x.shape[1] != test_x.shape[1]:
        raise DataError(
            f"train features have {train_x.shape[1]} dimensions, test features {test_x.shape[1]}"
        )
    classes = np.unique(train_y)
    if len(classes) < 2:
        raise DataError(
            f"the training labels hold one class ({classes[0]}); a probe needs at least two"
        )
    unseen = np.setdiff1d(test_y, classes)
    if len(unseen):
        raise DataError(
            f"test classes {unseen[:5].tolist()} have no training image; use one split of one data "
            "set"
        )
    center, scale = np.zeros(train_x.shape[1]), np.ones(train_x.shape[1])
    if standardize:
        center, scale = train_x.mean(0), train_x.std(0)
        scale[scale < 1e-12] = 1
    places = np.searchsorted(classes, train_y), np.searchsorted(classes, test_y)
    train_x, test_x = row_space((train_x - center) / scale, (test_x - center) / scale)
    return _Prepared(train_x, places[0], test_x, places[1])


def row_space(train_x: np.ndarray, test_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal coordinates of centred features where there are fewer images than dimensions: at
    most N of them.

    The optimum lies in the span of the centred training features (any part of a weight across it
    costs penalty and changes no training score), and coordinates in it are an isometry: same
    objective, same scores, fewer products. The coordinates are uncorrelated, so the solvers need
    fewer iterations as well.
    """
    n, d = train_x.shape
    if n >= d:
        return train_x, test_x
    center = train_x.mean(0)
    train_x, test_x = train_x - center, test_x - center
    squares, left = np.linalg.eigh(train_x @ train_x.T)
    kept = squares > squares[-1] * n * np.finfo(squares.dtype).eps
    lengths = np.sqrt(squares[kept])
    basis = train_x.T @ (left[:, kept] / lengths)
    return left[:, kept] * lengths, test_x @ basis


def check_labelled(x: np.ndarray, y: np.ndarray, which: str) -> tuple[np.ndarray, np.ndarray]:
    """float64 (N, D) and int64 (N,).

    Raises:
        DataError: shapes that do not fit, no image, non-finite features, an unlabelled image.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y)
    if x.ndim != 2 or y.shape != (len(x),) or not len(x):
        raise DataError(
            f"{which} features have shape {x.shape} and labels {y.shape}; they must be (N, D) and "
            "(N,)"
        )
    first = first_not_finite(torch.from_numpy(x))
    if first is not None:
        raise DataError(
            f"{which} features are not finite (first in row {first}); the encoder has diverged"
        )
    if y.min() < 0:
        raise DataError(
            f"{int((y < 0).sum())} {which} images have no label (-1); a probe needs labels for all"
        )
    return x, y.astype(np.int64)


def _fit(
    problem: _Prepared,
    values: Sequence[float],
    solver: str,
    device: str | torch.device,
    max_iter: int,
    tol: float | None,
) -> tuple[list, ...]:
    """(weight (K, D), intercept (K,)) for each C, whether each converged, and the objectives."""
    if not (len(values) and all(np.isfinite(c) and c > 0 for c in values)):
        raise ConfigError(f"C={list(values)} must be positive")
    if solver not in ("auto", "sklearn", "torch"):
        raise ConfigError(f"solver={solver!r} is unknown; choose auto, sklearn or torch")
    if solver == "auto":
        small = torch.device(device).type == "cpu" and len(problem.train_x) <= SKLEARN_LIMIT
        solver = "sklearn" if small else "torch"
    tol = TOLERANCES[solver] if tol is None else tol
    if solver == "sklearn":
        fits = [_fit_sklearn(problem, c, max_iter, tol) for c in values]
        return [f[0] for f in fits], [f[1] for f in fits], [f[2] for f in fits]
    fits = [
        _fit_torch(problem, some, device, max_iter, tol)
        for some in _that_fit(problem, values, device)
    ]
    return tuple([each for fit in fits for each in fit[i]] for i in range(3))


def _that_fit(
    problem: _Prepared, values: Sequence[float], device: str | torch.device
) -> list[Sequence[float]]:
    """The values in groups whose logits fit into memory together."""
    logits = len(problem.train_x) * (int(problem.train_y.max()) + 1)
    limit = CPU_LOGITS if torch.device(device).type == "cpu" else GPU_LOGITS
    together = max(1, limit // logits)
    return [values[i : i + together] for i in range(0, len(values), together)]


def _fit_torch(
    problem: _Prepared,
    values: Sequence[float],
    device: str | torch.device,
    max_iter: int,
    tol: float,
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[bool], list[float]]:
    on_cpu = torch.device(device).type == "cpu"
    x_ND = torch.as_tensor(
        problem.train_x, dtype=torch.float64 if on_cpu else torch.float32, device=device
    )
    y_N = torch.as_tensor(problem.train_y, device=device)
    binary = int(y_N.max()) == 1
    target = y_N[:, None].to(x_ND) if binary else y_N
    fit = fit_logistic(x_ND, target, values, independent=binary, max_iter=max_iter, tol=tol)
    pairs = zip(fit.weight_RKD.cpu().double().numpy(), fit.bias_RK.cpu().double().numpy())
    return [_each_class(w, b) for w, b in pairs], fit.converged_R.tolist(), fit.objective_R.tolist()


def _each_class(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One row per class; for two classes scikit-learn (and so this probe) fits one sigmoid of their
    difference.
    """
    if len(weight) > 1:
        return weight, bias
    return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2


def _fit_sklearn(
    problem: _Prepared, c: float, max_iter: int, tol: float
) -> tuple[tuple[np.ndarray, np.ndarray], bool, float]:
    # exact: the intercept takes it up, and lbfgs needs far fewer steps
    center = problem.train_x.mean(0)
    x, y = problem.train_x - center, problem.train_y
    model = LogisticRegression(C=c, max_iter=max_iter, tol=tol)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(x, y)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    weight, bias = _each_class(model.coef_, np.asarray(model.intercept_))
    logits = x @ weight.T + bias
    losses = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(y)), y]
    return (
        (weight, bias - weight @ center),
        converged,
        float(c * losses.sum() + 0.5 * (model.coef_**2).sum()),
    )
