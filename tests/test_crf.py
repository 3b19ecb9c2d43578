"""The conditional random field against every sequence of labels, written out."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import key, normal, same

import jrnn
from jrnn.models import CRF, Tagger, bio_scheme
from jrnn.models.crf import CRFParams

TIME, LABELS = 5, 3
MODEL = CRF(LABELS)
PARAMS = CRFParams(transitions=normal(1, LABELS, LABELS), start=normal(2, LABELS), end=normal(3, LABELS))
LOGITS = normal(4, TIME, 5, LABELS)
LENGTHS = jnp.array([5, 3, 1, 0, 5])
RESET = np.zeros((TIME, 5), bool)
RESET[[2, 3], 0] = True  # three documents: 2, 1, 2
RESET[0, 1] = True  # at the first step: no other document
RESET[4, 4] = True
LABELLED = jnp.asarray(np.random.default_rng(0).integers(0, LABELS, (TIME, 5)), jnp.int32)
PLAIN = [[range(5)], [range(3)], [range(1)], [], [range(5)]]
PACKED = [[range(2), range(2, 3), range(3, 5)], [range(3)], [range(1)], [], [range(4), range(4, 5)]]
MARKS = pytest.mark.parametrize(
    ("marks", "documents"),
    [({"lengths": LENGTHS}, PLAIN), ({"lengths": LENGTHS, "reset": jnp.asarray(RESET)}, PACKED)],
    ids=["lengths", "packed"],
)


def score(logits, steps, path):
    p = jax.tree.map(np.asarray, PARAMS)
    own = sum(logits[t, label] for t, label in zip(steps, path, strict=True))
    return own + p.start[path[0]] + p.end[path[-1]] + sum(p.transitions[a, b] for a, b in itertools.pairwise(path))


def scores(logits, steps):
    paths = itertools.product(range(LABELS), repeat=len(steps))
    return {path: score(np.asarray(logits), steps, path) for path in paths}


@MARKS
def test_log_partition_sums_over_every_sequence(marks, documents):
    found = MODEL.log_partition(PARAMS, LOGITS, **marks)
    for row, parts in enumerate(documents):
        expected = sum(np.log(np.sum(np.exp(list(scores(LOGITS[:, row], part).values())))) for part in parts)
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-5)


@MARKS
def test_score_is_that_of_the_labels(marks, documents):
    found = MODEL.score(PARAMS, LOGITS, LABELLED, **marks)
    for row, parts in enumerate(documents):
        expected = sum(
            score(np.asarray(LOGITS[:, row]), part, np.asarray(LABELLED[:, row])[list(part)]) for part in parts
        )
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-5)


@MARKS
def test_viterbi_finds_the_best_sequence(marks, documents):
    found = MODEL.decode(PARAMS, LOGITS, **marks)
    for row, parts in enumerate(documents):
        best = []
        for part in parts:
            all_scores = scores(LOGITS[:, row], part)
            best += max(all_scores, key=all_scores.__getitem__)
        assert found[:, row].tolist() == best + [-1] * (TIME - len(best))


@MARKS
def test_the_gradient_is_the_marginals(marks, documents):
    """d log Z / d logits is how likely each label is at each step, by all sequences written out."""
    found = jax.grad(lambda logits: MODEL.log_partition(PARAMS, logits, **marks).sum())(LOGITS)
    expected = np.zeros(LOGITS.shape)
    for row, parts in enumerate(documents):
        for part in parts:
            all_scores = scores(LOGITS[:, row], part)
            total = np.sum(np.exp(list(all_scores.values())))
            for path, value in all_scores.items():
                for t, label in zip(part, path, strict=True):
                    expected[t, row, label] += np.exp(value) / total
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_likelihoods_of_all_sequences_sum_to_one():
    paths = jnp.asarray(list(itertools.product(range(LABELS), repeat=3)), jnp.int32).T
    logits = jnp.broadcast_to(LOGITS[:3, :1], (3, paths.shape[1], LABELS))
    np.testing.assert_allclose(jnp.exp(MODEL.log_likelihood(PARAMS, logits, paths)).sum(), 1, rtol=1e-5)


def test_padding_reaches_nothing():
    dirty = LOGITS.at[3:, 1].set(jnp.nan)
    wrong = LABELLED.at[3:, 1].set(-7)

    def loss(params, logits, labels):
        return MODEL.log_likelihood(params, logits, labels, lengths=LENGTHS).sum()

    gradient = jax.grad(loss, argnums=(0, 1))
    same(gradient(PARAMS, dirty, wrong), gradient(PARAMS, LOGITS, LABELLED))
    same(MODEL.decode(PARAMS, dirty, lengths=LENGTHS), MODEL.decode(PARAMS, LOGITS, lengths=LENGTHS))


def test_a_mask_with_holes_is_the_row_without_them():
    mask = jnp.array([True, False, True, True, False])[:, None] & jnp.ones((TIME, 5), bool)
    kept = np.array([0, 2, 3])
    whole = MODEL.log_likelihood(PARAMS, LOGITS, LABELLED, mask=mask)
    same(whole, MODEL.log_likelihood(PARAMS, LOGITS[kept], LABELLED[kept]))
    same(MODEL.decode(PARAMS, LOGITS, mask=mask)[kept], MODEL.decode(PARAMS, LOGITS[kept]))


def test_at_its_start_every_label_is_on_its_own():
    params = MODEL.init(key(0))
    alone = jnp.take_along_axis(jax.nn.log_softmax(LOGITS), LABELLED[..., None], -1).sum((0, 2))
    same(MODEL.log_likelihood(params, LOGITS, LABELLED), alone)
    same(MODEL.decode(params, LOGITS), LOGITS.argmax(-1).astype(jnp.int32))


def test_half_precision_is_computed_in_single():
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (PARAMS, LOGITS))
    assert MODEL.log_partition(*half).dtype == jnp.float32
    same(MODEL.log_partition(*half), MODEL.log_partition(*jax.tree.map(lambda a: a.astype(jnp.float32), half)))


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        (LOGITS[..., :2], LABELLED, r"logits is float32\[5, 5, 2\]; expected 3 labels"),
        (LOGITS, LABELLED[:4], r"labels is int32\[4, 5\]; expected integers of shape \[5, 5\]"),
        (LOGITS, LOGITS[..., 0], r"labels is float32\[5, 5\]; expected integers"),
    ],
)
def test_bad_input(logits, labels, words):
    with pytest.raises(ValueError, match=words):
        MODEL.log_likelihood(PARAMS, logits, labels)


NAMES = ("O", "B-a", "I-a", "B-b", "I-b")
"""Labels of which I-a follows only B-a and I-a, and I-b only B-b and I-b."""


def follows(before, name):
    return not name.startswith("I") or (before is not None and before[1:] == name[1:] and before != "O")


def test_bio_scheme_by_hand():
    allowed = bio_scheme(NAMES)
    assert allowed.start == (True, True, False, True, False)
    expected = tuple(tuple(follows(before, name) for name in NAMES) for before in NAMES)
    assert allowed.transitions == expected


@pytest.mark.parametrize("crf", [True, False])
def test_only_what_is_allowed_is_decoded(crf):
    model = Tagger(jrnn.Layered((jrnn.Dense(5, 5),)), 5, crf=crf, allowed=bio_scheme(NAMES))
    params = model.init(key(0))
    xs = normal(1, 7, 40, 5, scale=3.0)
    found = np.asarray(model.decode(params, xs, lengths=jnp.arange(40) % 8))
    for row, length in enumerate(np.arange(40) % 8):
        names = [NAMES[label] for label in found[:length, row]]
        assert all(follows(before, name) for before, name in itertools.pairwise([None, *names]))
    # It is the best of what is allowed: for one row of three steps, against all of them.
    logits = np.asarray(model.apply(params, xs[:3, 7:8]))[:, 0]
    paths = [
        p
        for p in itertools.product(range(5), repeat=3)
        if all(follows(a, b) for a, b in itertools.pairwise([None, *(NAMES[i] for i in p)]))
    ]
    best = max(paths, key=lambda path: sum(logits[t, label] for t, label in enumerate(path)))
    assert tuple(np.asarray(model.decode(params, xs[:3, 7:8]))[:, 0]) == best


def test_forbidden_transitions_have_finite_gradients():
    forbidden = PARAMS._replace(
        transitions=PARAMS.transitions.at[0].set(-jnp.inf), start=PARAMS.start.at[1].set(-jnp.inf)
    )
    labels = jnp.full((TIME, 1), 2)
    (value, slopes) = jax.value_and_grad(
        lambda p, logits: -MODEL.log_likelihood(p, logits, labels).sum(), argnums=(0, 1)
    )(forbidden, LOGITS[:, :1])
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))
    possible = {
        path: found for path, found in scores(LOGITS[:, 0], range(TIME)).items() if path[0] != 1 and 0 not in path[:-1]
    }
    expected = np.log(np.sum(np.exp(list(possible.values())))) - possible[(2,) * TIME]
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("label", [-1, LABELS])
def test_a_label_out_of_range_is_none(label):
    labels = LABELLED.at[0, 0].set(label).at[4, 1].set(label)  # the second is padded
    with pytest.raises(ValueError, match=rf"labels\[0, 0\] is {label}, one of 1 "):
        MODEL.score(PARAMS, LOGITS, labels, lengths=LENGTHS)
    found = jax.jit(lambda labels: MODEL.score(PARAMS, LOGITS, labels, lengths=LENGTHS))(labels)
    assert np.isnan(found[0])
    same(found[1:], MODEL.score(PARAMS, LOGITS, LABELLED, lengths=LENGTHS)[1:])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bio_scheme(()), "names"),
        (lambda: CRF(3, bio_scheme(NAMES)), "expected 3"),
        (lambda: CRF(3, True), "bio_scheme"),
        (lambda: CRF(1, bio_scheme(["I-a"])), "may be the first"),
    ],
)
def test_bad_schemes(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_a_step_that_is_ignored_is_read_and_not_scored():
    model = Tagger(jrnn.Layered((jrnn.Dense(5, 5),)), 5)
    params, xs = model.init(key(0)), normal(1, 3, 2, 5)
    labels = jnp.array([[1, -100], [2, 3], [-100, 4]])
    found = model.loss(params, xs, labels, ignore=-100)
    nats = -jax.nn.log_softmax(model.apply(params, xs))
    places = [(0, 0), (1, 0), (1, 1), (2, 1)]
    np.testing.assert_allclose(found.total, sum(nats[t, b, labels[t, b]] for t, b in places), rtol=1e-5)
    assert found.weight == 4
    with pytest.raises(ValueError, match="crf"):
        dataclasses.replace(model, crf=True).loss(params, xs, labels, ignore=-100)
