import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from evaluation.linear_probe import linear_probe, row_space, sweep_c
from ssl_parts.errors import ConfigError, DataError


def data(classes=5, n=600, d=24, seed=0):
    x, y = make_classification(
        n,
        d,
        n_informative=10,
        n_classes=classes,
        n_clusters_per_class=1,
        class_sep=0.7,
        random_state=seed,
    )
    return x[: n // 2], y[: n // 2], x[n // 2 :], y[n // 2 :]


@pytest.mark.parametrize("solver", ["sklearn", "torch"])
@pytest.mark.parametrize("classes", [2, 5])
def test_accuracy_is_a_plain_sklearn_fits(solver, classes):
    train_x, train_y, test_x, test_y = data(classes)
    result = linear_probe(train_x, train_y, test_x, test_y, c=0.3, solver=solver)
    plain = LogisticRegression(C=0.3, max_iter=100_000, tol=1e-7).fit(train_x, train_y)
    assert result.accuracy == pytest.approx(plain.score(test_x, test_y), abs=1e-3)
    assert result.converged
    assert result.interval[0] <= result.accuracy <= result.interval[1]
    assert (result.n_train, result.n_test) == (300, 300)


@pytest.mark.parametrize("c", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_two_solvers_have_one_optimum(c, classes):
    train = data(classes, seed=1)
    ours, theirs = (
        linear_probe(*train, c=c, solver=s, tol=t) for s, t in (("torch", 1e-5), ("sklearn", 1e-7))
    )
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-4)
    assert ours.accuracy == pytest.approx(theirs.accuracy, abs=1e-3)


def test_separable_classes_are_fitted_to_the_optimum():
    """Where scikit-learn's default tolerance stops well above it."""
    rng = np.random.default_rng(0)
    y = np.arange(480) % 20
    x = np.maximum(rng.normal(size=(20, 200))[y] + rng.normal(size=(480, 200)), 0)
    train = x[:400], y[:400], x[400:], y[400:]
    certified = linear_probe(*train, solver="torch", tol=1e-6)
    assert certified.converged
    assert linear_probe(*train).objective == pytest.approx(certified.objective, rel=1e-5)
    assert linear_probe(*train, tol=1e-4).objective > 1.0005 * certified.objective


def fewer_images_than_dimensions():
    """Every image twice, and a constant feature: the rank is below both the images and the
    dimensions.
    """
    rng = np.random.default_rng(0)
    means, y = rng.standard_normal((4, 60)), np.arange(80) % 4
    x = np.exp(rng.standard_normal(60)) * (0.4 * means[y] + rng.standard_normal((80, 60))) + 3
    x[:, 7] = 1.0
    return np.concatenate([x[:20], x[:20]]), np.concatenate([y[:20], y[:20]]), x[20:], y[20:]


@pytest.mark.parametrize("solver", ["sklearn", "torch"])
@pytest.mark.parametrize("c", [1e-3, 1.0, 1000.0])
def test_fewer_images_than_dimensions_have_the_optimum_of_all_dimensions(c, solver):
    train_x, train_y, test_x, test_y = fewer_images_than_dimensions()
    result = linear_probe(
        train_x,
        train_y,
        test_x,
        test_y,
        c=c,
        solver=solver,
        tol={"sklearn": 1e-8, "torch": 1e-5}[solver],
    )
    plain = LogisticRegression(C=c, max_iter=100_000, tol=1e-8).fit(train_x, train_y)
    losses = -plain.predict_log_proba(train_x)[np.arange(40), train_y]
    assert result.objective == pytest.approx(
        c * losses.sum() + 0.5 * (plain.coef_**2).sum(), rel=1e-4
    )
    assert result.accuracy == pytest.approx(plain.score(test_x, test_y), abs=1e-3)


def test_row_space_keeps_distances_in_at_most_as_many_coordinates():
    train_x, _, test_x, _ = fewer_images_than_dimensions()
    train, test = row_space(train_x, test_x)
    assert train.shape == (40, 19) and test.shape == (60, 19)  # 20 images, centred
    distances = np.linalg.norm(train_x[:, None] - train_x, axis=-1)
    np.testing.assert_allclose(
        np.linalg.norm(train[:, None] - train, axis=-1), distances, atol=1e-9
    )
    products = (test_x - train_x.mean(0)) @ (train_x - train_x.mean(0)).T
    np.testing.assert_allclose(test @ train.T, products, atol=1e-8)
    assert row_space(test_x, train_x)[0] is test_x


def test_standardised_features_do_not_depend_on_their_units():
    train_x, train_y, test_x, test_y = data()
    units = np.exp(np.linspace(-6, 6, 24))
    plain = linear_probe(train_x, train_y, test_x, test_y, standardize=True)
    scaled = linear_probe(
        train_x * units + 9, train_y, test_x * units + 9, test_y, standardize=True
    )
    assert plain.accuracy == pytest.approx(scaled.accuracy, abs=4e-3)
    raw = linear_probe(train_x * units, train_y, test_x * units, test_y, c=1e-4)
    assert raw.accuracy != plain.accuracy


def test_any_numbering_of_classes_and_top5():
    train_x, train_y, test_x, test_y = data(classes=7)
    plain = linear_probe(train_x, train_y, test_x, test_y)
    renamed = linear_probe(train_x, train_y * 10 + 3, test_x, test_y * 10 + 3)
    assert (plain.hits == renamed.hits).all()
    assert plain.accuracy < plain.top5 < 1


def test_the_sweep_chooses_on_what_it_is_given():
    train_x, train_y, val_x, val_y = data(seed=3)
    sweep = sweep_c(train_x, train_y, val_x, val_y, values=(1e-6, 1e-2, 1.0))
    each = [linear_probe(train_x, train_y, val_x, val_y, c=c).accuracy for c in (1e-6, 1e-2, 1.0)]
    # two stops of one solver: an image may tip over
    assert sweep.accuracies == pytest.approx(each, abs=0.01)
    assert sweep.c == (1e-6, 1e-2, 1.0)[int(np.argmax(each))]


def test_equal_accuracies_take_the_stronger_penalty():
    x = np.array([[-1.0], [-2.0], [1.0], [2.0]])
    y = np.array([0, 0, 1, 1])
    assert sweep_c(x, y, x, y, values=(10.0, 0.1, 1.0)).c == 0.1


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda d: d[0].__setitem__((3, 1), np.nan),
            "train features are not finite .first in row 3",
        ),
        (lambda d: d[1].__setitem__(0, -1), "1 train images have no label"),
        (lambda d: d[3].__setitem__(0, 99), r"test classes \[99\] have no training image"),
        (lambda d: d[1].fill(2), "one class"),
    ],
)
def test_bad_data_is_named(change, message):
    arrays = [a.copy() for a in data()]
    change(arrays)
    with pytest.raises(DataError, match=message):
        linear_probe(*arrays)


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match="C="):
        linear_probe(*data(), c=0)
    with pytest.raises(ConfigError, match="solver='newton'"):
        linear_probe(*data(), solver="newton")
    with pytest.raises(DataError, match="24 dimensions, test features 3"):
        train_x, train_y, test_x, test_y = data()
        linear_probe(train_x, train_y, test_x[:, :3], test_y)
