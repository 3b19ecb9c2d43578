"""Flax's cells with dropout as cells of jrnn: what they draw, and that runs in parts draw the same."""

import jax
import jax.numpy as jnp
import laws
import numpy as np
import pytest
from cases import key, random_inputs, random_params, run, same
from flax import linen as nn
from flax import nnx

import jrnn
from jrnn.flax import linen as in_linen
from jrnn.flax import nnx as in_nnx

RATE, INPUT, HIDDEN, TIME, BATCH = 0.4, 3, 16, 7, 3


class Linen(nn.RNNCellBase):
    """h_t = tanh(x W + (m h_{t-1}) U); it gives h_t and its mask m."""

    features: int = HIDDEN
    deterministic: bool = False

    @nn.compact
    def __call__(self, carry, x):
        m = nn.Dropout(RATE, deterministic=self.deterministic)(jnp.ones_like(carry))
        h = nn.tanh(nn.Dense(self.features, name="x")(x) + nn.Dense(self.features, False, name="h")(m * carry))
        return h, jnp.concatenate([h, m], -1)

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.zeros((*input_shape[:-1], self.features))

    @property
    def num_feature_axes(self):
        return 1


class LinenByArgument(nn.Module):
    """The same by an argument of the call, and not made from `RNNCellBase`."""

    @nn.compact
    def __call__(self, carry, x, deterministic):
        m = nn.Dropout(RATE)(jnp.ones_like(carry), deterministic=deterministic)
        h = nn.tanh(nn.Dense(HIDDEN, name="x")(x) + nn.Dense(HIDDEN, False, name="h")(m * carry))
        return h, jnp.concatenate([h, m], -1)

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.zeros((*input_shape[:-1], HIDDEN))


class Nnx(nnx.Module):
    """The same in nnx, not made from `RNNCellBase`, with a carry that needs no random numbers."""

    def __init__(self, inputs, hidden, *, rngs):
        self.x, self.h = nnx.Linear(inputs, hidden, rngs=rngs), nnx.Linear(hidden, hidden, use_bias=False, rngs=rngs)
        self.drop, self.hidden = nnx.Dropout(RATE, rngs=rngs), hidden

    def __call__(self, carry, x):
        m = self.drop(jnp.ones_like(carry))
        h = jnp.tanh(self.x(x) + self.h(m * carry))
        return h, jnp.concatenate([h, m], -1)

    def initialize_carry(self, input_shape):
        return jnp.zeros((*input_shape[:-1], self.hidden))


CELLS = {
    "linen": lambda **options: in_linen.FlaxCell(Linen(), INPUT, **options),
    "linen-argument": lambda **options: in_linen.FlaxCell(LinenByArgument(), INPUT, **options),
    "nnx": lambda **options: in_nnx.FlaxCell(Nnx, INPUT, HIDDEN, **options),
}


@pytest.fixture(params=CELLS)
def make(request):
    return CELLS[request.param]


def recomputed(params, xs, masks):
    """The hidden states, from the masks, without Flax."""
    h, hs = jnp.zeros((BATCH, HIDDEN)), []
    w, b, u = params["x"]["kernel"], params["x"]["bias"], params["h"]["kernel"]
    for x, m in zip(xs, masks):
        h = jnp.tanh(x @ w + b[None] + (m * h) @ u)
        hs.append(h)
    return jnp.stack(hs)


@pytest.mark.parametrize("per_step", [True, False])
def test_masks_and_states(make, per_step):
    cell = make(per_step=per_step)
    params, xs = random_params(cell), random_inputs(cell, TIME, BATCH)
    _, ys = jrnn.Recurrent(cell).apply(params, xs, key=key(3))
    hs, masks = np.split(np.asarray(ys), 2, -1)
    np.testing.assert_allclose(hs, recomputed(params, xs, masks), rtol=0, atol=1e-5)
    dropped = masks == 0
    np.testing.assert_allclose(masks[~dropped], 1 / (1 - RATE), rtol=1e-6)
    # 336 or 48 draws: three standard deviations are 0.08 and 0.21.
    assert abs(dropped.mean() - RATE) < (0.08 if per_step else 0.21)
    assert not np.array_equal(masks[:, 0], masks[:, 1])
    assert np.array_equal(masks[0], masks[1]) is not per_step
    assert not np.array_equal(ys, jrnn.Recurrent(cell).apply(params, xs, key=key(4))[1])
    _, quiet = jrnn.Recurrent(cell).apply(params, xs)
    np.testing.assert_array_equal(quiet[..., HIDDEN:], 1)
    np.testing.assert_allclose(quiet[..., :HIDDEN], recomputed(params, xs, np.ones_like(masks)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("per_step", [True, False])
def test_parts_steps_and_rows_draw_what_the_whole_draws(make, per_step):
    cell = make(per_step=per_step)
    params, xs = random_params(cell), random_inputs(cell, TIME, BATCH)
    start = cell.initial_state(params, (BATCH,), key(3))
    final, ys = run(cell, params, xs, start)
    middle, first = run(cell, params, xs[:4], start)
    same((final, ys), (lambda state, rest: (state, jnp.concatenate([first, rest])))(*run(cell, params, xs[4:], middle)))
    state = start
    for x, y in zip(xs, ys):
        state, stepped = cell.step(params, state, x)
        same(stepped, y)
    row = jax.tree.map(lambda a: a[1], start)
    same(run(cell, params, xs[:, 1], row)[1], ys[:, 1])
    lengths = jnp.array([7, 4, 0])
    ended, short = run(cell, params, xs, start, lengths=lengths)
    same(short[:4, 1], ys[:4, 1])
    same(jax.tree.map(lambda a: a[1], ended.carry), jax.tree.map(lambda a: a[1], middle.carry))


@pytest.mark.parametrize("per_step", [True, False])
def test_derivatives_with_dropout(make, per_step):
    cell = make(per_step=per_step)
    params, xs = random_params(cell), random_inputs(cell, TIME, BATCH)

    def loss(params):
        hs, masks = jnp.split(jrnn.Recurrent(cell).apply(params, xs, key=key(3))[1], 2, -1)
        return laws.weighted(hs), masks

    found, masks = jax.jit(jax.grad(loss, has_aux=True))(params)
    wanted = jax.jit(jax.grad(lambda params: laws.weighted(recomputed(params, xs, masks))))(params)
    same(found, wanted, 1e-5)


LAWS = [laws.derivatives_agree, laws.vmap_is_a_batch_axis, laws.batch_axes_do_not_matter, laws.padding_is_absent]


@pytest.mark.parametrize("law", [*LAWS, laws.sharded_is_unsharded], ids=lambda law: law.__name__)
def test_laws(law):
    law(in_linen.FlaxCell(Linen(4), INPUT))


@pytest.mark.parametrize("law", LAWS[:2], ids=lambda law: law.__name__)
def test_laws_of_nnx(law):
    law(in_nnx.FlaxCell(Nnx, INPUT, 4))


class Merging(nn.Module):
    """The idiom of Flax's own Dropout: a field or an argument, not both."""

    deterministic: bool | None = None

    @nn.compact
    def __call__(self, carry, x, deterministic=None):
        quiet = nn.merge_param("deterministic", self.deterministic, deterministic)
        m = nn.Dropout(RATE, deterministic=quiet)(jnp.ones_like(carry))
        return nn.tanh(nn.Dense(HIDDEN)(x) + m * carry), m

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.zeros((*input_shape[:-1], HIDDEN))


class Asking(nn.Module):
    """It drops where there is a key of this name."""

    initialize_carry = Merging.initialize_carry

    @nn.compact
    def __call__(self, carry, x):
        m = nn.Dropout(RATE, deterministic=not self.has_rng("dropout"))(jnp.ones_like(carry))
        return nn.tanh(nn.Dense(HIDDEN)(x) + m * carry), m


class Compiled(Nnx):
    """Its step is compiled with all its variables, the stream of keys among them."""

    def __call__(self, carry, x):
        h, y = nnx.jit(Nnx.__call__)(self, carry, x)
        return h, y[..., self.hidden :]


@pytest.mark.parametrize(
    "cell",
    [
        in_linen.FlaxCell(Merging(), INPUT),
        in_linen.FlaxCell(Merging(deterministic=True), INPUT),
        in_linen.FlaxCell(Asking(), INPUT),
        in_nnx.FlaxCell(Compiled, INPUT, HIDDEN),
    ],
    ids=["argument-or-field", "field-set", "has-rng", "compiled"],
)
def test_other_ways_to_say_when(cell):
    params, xs = random_params(cell), random_inputs(cell, TIME, BATCH)
    # 336 draws of 0.4.
    assert 0.3 < np.mean(jrnn.Recurrent(cell).apply(params, xs, key=key(3))[1] == 0) < 0.5
    np.testing.assert_array_equal(jrnn.Recurrent(cell).apply(params, xs)[1], 1)


def test_a_key_is_of_no_use_to_a_cell_without_dropout():
    cell = in_nnx.FlaxCell(nnx.GRUCell, INPUT, HIDDEN)
    assert cell.initial_state(random_params(cell), (2,), key(0)).key is None


class AlwaysLinen(Linen):
    @nn.compact
    def __call__(self, carry, x):
        return carry, nn.Dense(2)(x) + jax.random.normal(self.make_rng("noise"), (2,))


class AlwaysNnx(Nnx):
    def __init__(self, inputs, hidden, *, rngs):
        super().__init__(inputs, hidden, rngs=rngs)
        self.rngs = rngs.noise.fork()

    def __call__(self, carry, x):
        return carry, self.x(x) + jax.random.normal(self.rngs(), (self.hidden,))


@pytest.mark.parametrize(
    "cell", [in_linen.FlaxCell(AlwaysLinen(), INPUT), in_nnx.FlaxCell(AlwaysNnx, INPUT, HIDDEN)], ids=["linen", "nnx"]
)
def test_a_cell_that_draws_always_needs_a_key(cell):
    params, xs = random_params(cell), random_inputs(cell, TIME, BATCH)
    _, ys = jrnn.Recurrent(cell).apply(params, xs, key=key(0))
    assert ys.shape[:2] == (TIME, BATCH)
    with pytest.raises(TypeError, match=r"Always.* draws random numbers also without dropout.*give one to apply"):
        jrnn.Recurrent(cell).apply(params, xs)


def test_mistakes_are_named():
    made = nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))
    for attempt, words in [
        (lambda: in_nnx.FlaxCell(made, 3, 4), r"module is a LSTMCell; expected a class.*nnx.to_pure_dict"),
        (lambda: in_nnx.FlaxCell(lambda *sizes, rngs: 3, 3, 4).output_size, "module makes a int"),
        (lambda: in_nnx.FlaxCell(nnx.Linear, 3, 4).output_size, r"module makes a Linear.*initialize_carry"),
        (lambda: in_linen.FlaxCell(nn.LSTMCell, 3), r"expected a cell of linen.*make one, such as LSTMCell\(64\)"),
        (lambda: in_linen.FlaxCell(nn.Dense(4), 3), r"module is a Dense.*initialize_carry"),
    ]:
        with pytest.raises(TypeError, match=words):
            attempt()
