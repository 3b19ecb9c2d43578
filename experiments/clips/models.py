"""What a clip's frames show, and what its next frames are: two models over recurrent layers."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen

import jrnn
from experiments.data.moving_digits import Clips
from jrnn import losses

_SMALL = 8  # pixels: the reader halves pictures that are larger
_DARK = -2.0  # the output's bias at first: most pixels are black


class Reader(linen.Module):
    """Flax: pictures [..., height, width, channels] -> vectors [..., features].

    Convolutions of 3 x 3, each that halves the picture with twice the channels, until it is at most 8 pixels wide; what matters
    is then what is seen, wherever it is: the largest value and the mean of each channel.
    """

    channels: int
    features: int

    @linen.compact
    def __call__(self, pictures: jax.Array) -> jax.Array:
        channels = self.channels
        x = linen.relu(linen.Conv(channels, (3, 3))(pictures))
        while min(x.shape[-3:-1]) > _SMALL:
            channels *= 2
            x = linen.relu(linen.Conv(channels, (3, 3), strides=2)(x))
        x = linen.relu(linen.Conv(channels, (3, 3))(x))
        seen = jnp.concatenate([x.max((-3, -2)), x.mean((-3, -2))], -1)
        return linen.relu(linen.Dense(self.features)(seen))


class LabellerParams(NamedTuple):
    reader: Any  # Flax's own
    layer: Any  # the layer's own
    digit: Any  # DenseParams
    direction: Any  # DenseParams


@dataclasses.dataclass(frozen=True)
class Labeller:
    """Many to many in step: the digit that each frame shows and the way it came.

    The reader, shared over time, is given each frame beside the one before it, so that it sees motion; `layer` reads its vectors.
    """

    reader: Reader
    layer: jrnn.Layer
    canvas: int  # height and width of a frame
    digits: int
    directions: int

    @property
    def _heads(self) -> tuple[jrnn.Dense, jrnn.Dense]:
        size: Any = self.layer.output_size
        return jrnn.Dense(size, self.digits), jrnn.Dense(size, self.directions)

    def init(self, key: jax.Array) -> LabellerParams:
        keys = jax.random.split(key, 4)
        reader = self.reader.init(keys[0], jnp.zeros((1, self.canvas, self.canvas, 2)))
        digit, direction = (head.init(k) for head, k in zip(self._heads, keys[2:], strict=True))
        return LabellerParams(reader, self.layer.init(keys[1]), digit, direction)

    def apply(
        self, params: LabellerParams, frames: Any, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """frames [time, *batch, height, width, 1] -> logits of digits and directions, [time, *batch, ...] each."""
        before = jnp.concatenate([frames[:1], frames[:-1]])
        read: Any = self.reader.apply(params.reader, jnp.concatenate([frames, before], -1))
        _, ys = self.layer.apply(params.layer, read, key=key)
        digit, direction = self._heads
        return digit.map(params.digit, ys, "ys"), direction.map(params.direction, ys, "ys")

    def loss(self, params: LabellerParams, clips: Clips, key: jax.Array | None = None) -> losses.Mean:
        """Nats a frame: those of its digit and those of its direction, where it has one."""
        digit, direction = self.apply(params, clips.frames, key=key)
        truth, way = jnp.asarray(clips.digit), jnp.asarray(clips.direction)
        totals = losses.cross_entropy(digit, truth, None), losses.cross_entropy(direction, way, way >= 0)
        return losses.Mean(total=totals[0].total + totals[1].total, weight=totals[0].weight)


class PredictorParams(NamedTuple):
    encoder: Any  # the layer's own
    decoder: Any  # the layer's own
    output: Any  # DenseParams


@dataclasses.dataclass(frozen=True)
class Predictor:
    """The next frames of a clip (Shi et al. 2015): the encoder's state at the end of what is seen is where the decoder begins.

    Frames [height, width, 1] are cut into squares of `patch` pixels, the channels of a smaller picture, for a layer of
    convolutional cells; a layer of other cells reads them as vectors. Encoder and decoder are the same layer with parameters of
    their own. The decoder is given nothing at any step, as in the paper: it only unfolds that state. Each frame is read from
    its last layer; in the paper, from the states of all.
    """

    layer: jrnn.Layer
    canvas: int
    patch: int

    @property
    def _output(self) -> jrnn.Dense:
        size, read = self.layer.output_size, self.layer.input_size
        return jrnn.Dense(*(one[-1] if isinstance(one, tuple) else one for one in (size, read)))  # type: ignore[misc]

    def init(self, key: jax.Array) -> PredictorParams:
        keys = jax.random.split(key, 3)
        output = self._output.init(keys[2])
        output = output._replace(b=jnp.full_like(output.b, _DARK))  # type: ignore[arg-type]
        return PredictorParams(self.layer.init(keys[0]), self.layer.init(keys[1]), output)

    def apply(self, params: PredictorParams, seen: jax.Array, ahead: int) -> jax.Array:
        """seen [time, *batch, height, width, 1] -> logits of the pixels of so many frames more, [ahead, *batch, ...]."""
        xs = self._read(seen)
        state, _ = self.layer.apply(params.encoder, xs)
        nothing = jnp.zeros_like(xs, shape=(ahead, *xs.shape[1:]))
        _, ys = self.layer.apply(params.decoder, nothing, state)
        return self._written(self._output.map(params.output, ys, "ys"))

    def loss(self, params: PredictorParams, clips: jax.Array, seen: int) -> losses.Mean:
        """Nats a frame of those after the first `seen` of clips [time, *batch, height, width, 1]."""
        logits, truth = self.apply(params, clips[:seen], len(clips) - seen), clips[seen:]
        flat = (*truth.shape[:-3], -1)
        return losses.binary_cross_entropy(logits.reshape(flat), truth.reshape(flat), None)

    def _read(self, frames: jax.Array) -> jax.Array:
        """Frames as the layer reads them."""
        batch, rows, patch = frames.shape[:-3], self.canvas // self.patch, self.patch
        cut = frames.reshape(*batch, rows, patch, rows, patch).swapaxes(-3, -2)
        return cut.reshape(*batch, rows, rows, patch**2) if self._convolves else cut.reshape(*batch, -1)

    def _written(self, xs: jax.Array) -> jax.Array:
        """Frames from what `_read` makes of them."""
        rows, patch = self.canvas // self.patch, self.patch
        batch = xs.shape[: -3 if self._convolves else -1]
        cut = xs.reshape(*batch, rows, rows, patch, patch).swapaxes(-3, -2)
        return cut.reshape(*batch, self.canvas, self.canvas, 1)

    @property
    def _convolves(self) -> bool:
        return isinstance(self.layer.input_size, tuple)


def parameters(model: Any) -> int:
    """How many a model has."""
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))))


def convolutional(kind: Any, canvas: int, patch: int, hidden: int, layers: int, kernel: int) -> Predictor:
    """A predictor of ConvLSTM or ConvGRU cells, `hidden` features at each of (canvas / patch)² places."""
    if canvas % patch:
        raise ValueError(f"--patch is {patch}; expected a divisor of the {canvas} pixels of a frame's side")
    size = (canvas // patch, canvas // patch, patch**2)
    layer = jrnn.rnn(kind, input_size=size, hidden_size=hidden, num_layers=layers, kernel_size=kernel)
    return Predictor(layer, canvas, patch)


def plain(like: Predictor, layers: int) -> Predictor:
    """A predictor of LSTMs over whole frames, of the width that comes closest to as many parameters as `like` has."""

    def one(hidden: int) -> Predictor:
        return dataclasses.replace(
            like,
            layer=jrnn.rnn(jrnn.LSTM, input_size=like.canvas**2, hidden_size=hidden, num_layers=layers),
        )

    wanted, low, high = parameters(like), 1, 2
    while parameters(one(high)) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(one(middle)) < wanted else (low, middle)
    return min(one(low), one(high), key=lambda model: abs(parameters(model) - wanted))
