"""Convolutional recurrent cells: any cell at every place of a grid, with convolutions for its products."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .. import initializers
from ..cell import Cell
from ..checks import Activation, check_positive, check_switches, describe
from .gru import GRU
from .lstm import LSTM, PeepholeLSTM
from .wrapper import Wrapper


@functools.partial(jax.tree_util.register_dataclass, data_fields=["w"], meta_fields=["strides", "padding", "dilation"])
@dataclasses.dataclass(frozen=True)
class Kernel:
    """What stands where a cell expects a matrix [in, out]: `x @ kernel` is a convolution of x [..., *spatial, in].

    `kernel[:, columns]` has some of the outputs alone, as a matrix would.
    """

    w: jax.Array  # [*window, in, out]
    strides: tuple[int, ...]
    padding: str
    dilation: tuple[int, ...]

    def __rmatmul__(self, x: jax.Array) -> jax.Array:
        axes = len(self.strides)
        batch, features = x.shape[: x.ndim - axes - 1], x.shape[x.ndim - axes - 1 :]
        letters = "DHW"[-axes:]
        made = lax.conv_general_dilated(
            x.reshape(math.prod(batch), *features),  # it takes one batch axis
            self.w,
            self.strides,
            self.padding.upper(),
            rhs_dilation=self.dilation,
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        )
        return made.reshape(*batch, *made.shape[1:])

    def __getitem__(self, index: tuple[Any, Any]) -> "Kernel":
        rows, columns = index
        return dataclasses.replace(self, w=self.w[..., rows, columns])


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Convolutional(Wrapper):
    """A cell at every place of a grid, which sees its neighbours: its products with the input and the past are convolutions.

        z_t = project(params, x_t)        with  x * W_x  for  x W_x
        r_t = recur(params, s_{t-1})      with  h * W_h  for  h W_h
        s_t = update(...)                 the same; a product with W_h in it, such as (r h) W_hn, likewise
        y_t = readout(...)

    Inputs are [time, *batch, *spatial, channels], every array of the state [*batch, *spatial', features]: to the cell inside,
    the spatial axes are batch axes. `w_x` and what the cell names in `recurrent` are kernels [*window, in, out], as JAX, Flax and
    Keras have them; other weights (a projection, an output layer) act at each place alone, and biases are the same at each.

    - `spatial`: the size of an input along its one to three spatial axes, such as (height, width).
    - `kernel_size`: of the window, one number for all axes or one for each; `recurrent_kernel_size` of that over the past, if
      it is another.
    - `strides`, `padding` ("same" or "valid"), `dilation`: of the convolution of the input, as in Keras; its output has the
      size of the state, spatial'. That of the past has strides of 1 and "same", zeros beyond the edge.
    - `untied`: names of parameters that have values of their own at each place, [*spatial', ...].

    Kernels start as `initializers.standard` has them: Glorot, and orthogonal per gate. Wrappers go around it, as in
    `Zoneout(Convolutional(cell, ...), 0.1)`. On several devices run it inside `jax.shard_map`, as `jrnn.train` does: where the
    compiler divides the work by itself, it gathers all rows for the one convolution of the inputs of all steps.
    """

    cell: Cell
    spatial: tuple[int, ...]
    kernel_size: int | tuple[int, ...]
    recurrent_kernel_size: int | tuple[int, ...] | None = dataclasses.field(default=None, kw_only=True)
    strides: int | tuple[int, ...] = dataclasses.field(default=1, kw_only=True)
    padding: str = dataclasses.field(default="same", kw_only=True)
    dilation: int | tuple[int, ...] = dataclasses.field(default=1, kw_only=True)
    untied: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.cell, Wrapper):
            inside = self.cell.cell
            raise TypeError(
                f"Convolutional: cell is {self.cell}; expected a cell that is no wrapper: wrap Convolutional({inside}, ...) in it"
            )
        sizes = self.cell.input_size, self.cell.output_size
        if self.cell.takes_context or not all(isinstance(size, int) for size in sizes):
            raise TypeError(
                f"Convolutional: cell is {self.cell}; expected one with one feature axis, its channels, and no context"
            )
        if not isinstance(self.spatial, tuple) or not 1 <= len(self.spatial) <= 3:
            raise ValueError(
                f"Convolutional: spatial is {describe(self.spatial)}; expected one to three sizes, such as (height, width)"
            )
        for size in self.spatial:
            check_positive("Convolutional", spatial=size)
        for name in ("kernel_size", "recurrent_kernel_size", "strides", "dilation"):
            # Equal cells share a compilation: 3 and (3, 3) are the same.
            object.__setattr__(self, name, self._per_axis(name, getattr(self, name)))
        if self.padding not in ("same", "valid"):
            raise ValueError(f"Convolutional: padding is {self.padding!r}; expected 'same' or 'valid'")
        if min(self.output_spatial) < 1:
            raise ValueError(
                f"Convolutional: kernel_size {self.kernel_size} with dilation {self.dilation} is larger than spatial "
                f"{self.spatial}; expected a smaller one, or padding='same'"
            )

    def _per_axis(self, name: str, value: Any) -> Any:
        """One number for each spatial axis."""
        if value is None:
            return None
        each = value if isinstance(value, tuple) else (value,) * len(self.spatial)
        if len(each) != len(self.spatial):
            raise ValueError(
                f"Convolutional: {name} has {len(each)} numbers; expected one, or one for each spatial axis, {len(self.spatial)}"
            )
        for size in each:
            check_positive("Convolutional", **{name: size})
        return each

    @property
    def output_spatial(self) -> tuple[int, ...]:
        """The size of the state along the spatial axes."""
        spans = [(k - 1) * d if self.padding == "valid" else 0 for k, d in zip(self.kernel_size, self.dilation)]  # type: ignore[arg-type]
        return tuple(-(-(size - span) // by) for size, span, by in zip(self.spatial, spans, self.strides))  # type: ignore[arg-type]

    @property
    def input_size(self) -> tuple[int, ...]:  # type: ignore[override]
        return (*self.spatial, self.cell.input_size)

    @property
    def output_size(self) -> tuple[int, ...]:  # type: ignore[override]
        return (*self.output_spatial, self.cell.output_size)

    def init(self, key: jax.Array) -> Any:
        inside, kernels = jax.random.split(key)
        params = self.cell.init(inside)
        windows = {"w_x": self.kernel_size} | dict.fromkeys(
            self.cell.recurrent, self.recurrent_kernel_size or self.kernel_size
        )
        spread = {name: self._matrix(params, name, window) for name, window in windows.items()}
        params = initializers.standard(kernels, self, params._replace(**spread))
        return params._replace(**{name: self._untied(params, name) for name in self.untied})

    def _parameter(self, params: Any, name: str) -> jax.Array:
        value = getattr(params, name, None)
        if not isinstance(value, jax.Array):
            fields = [name for name, a in getattr(params, "_asdict", dict)().items() if a is not None]
            raise TypeError(
                f"Convolutional: {self.cell} has no parameter {name}; expected one of {', '.join(fields) or 'a NamedTuple'}"
            )
        return value

    def _matrix(self, params: Any, name: str, window: Any) -> jax.Array:
        """A kernel of zeros, in place of the matrix of that name."""
        w = self._parameter(params, name)
        if w.ndim != 2:
            raise TypeError(
                f"Convolutional: {name} of {self.cell} is {describe(w)}; expected a matrix, in whose place goes a kernel"
            )
        return jnp.zeros((*window, *w.shape), w.dtype)

    def _untied(self, params: Any, name: str) -> jax.Array:
        """The parameter of that name, repeated at each place."""
        value = self._parameter(params, name)
        if name == "w_x" or name in self.cell.recurrent:
            raise ValueError(
                f"Convolutional: untied has {name}, a kernel; expected biases or peepholes, such as ('p_i', 'p_f', 'p_o')"
            )
        return jnp.tile(value, (*self.output_spatial, *[1] * value.ndim))

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        return self.cell.initial_state(params, (*batch, *self.output_spatial), key)

    def project(self, params: Any, x: jax.Array) -> Any:
        return self.cell.project(self._with_kernels(params), x)

    def recur(self, params: Any, state: Any) -> Any:
        return self.cell.recur(self._with_kernels(params), state)

    def update_with_gates(self, params: Any, state: Any, z: Any, r: Any) -> tuple[Any, dict[str, jax.Array]]:
        return self.cell.update_with_gates(self._with_kernels(params), state, z, r)

    def readout(self, params: Any, state: Any, x: jax.Array) -> Any:
        return self.cell.readout(self._with_kernels(params), state, x)

    def _with_kernels(self, params: Any) -> Any:
        """The parameters, where each kernel multiplies as a convolution."""
        ones: Any = (1,) * len(self.spatial)
        strides, dilation = self.strides, self.dilation
        kernels = {name: Kernel(getattr(params, name), ones, "same", ones) for name in self.cell.recurrent}
        return params._replace(**kernels, w_x=Kernel(params.w_x, strides, self.padding, dilation))  # type: ignore[arg-type]


def ConvLSTM(
    input_size: tuple[int, ...],
    hidden_size: int,
    kernel_size: int | tuple[int, ...],
    *,
    peepholes: bool = False,
    recurrent_kernel_size: int | tuple[int, ...] | None = None,
    strides: int | tuple[int, ...] = 1,
    padding: str = "same",
    dilation: int | tuple[int, ...] = 1,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
    cell_activation: Activation | None = None,
    forget_bias: float = 1.0,
    bias: bool = True,
) -> Convolutional:
    """Convolutional LSTM (Shi et al. 2015, "Convolutional LSTM network: a machine learning approach for precipitation
    nowcasting").

        i, f, g, o = split(x_t * W_x + h_{t-1} * W_h + b)
        c_t = σ(f) c_{t-1} + σ(i) φ(g)
        h_t = σ(o) φ(c_t)
        y_t = h_t

    `input_size` is (*spatial, channels), such as (height, width, 3); x_t [*batch, *spatial, channels], h_t and c_t
    [*batch, *spatial', hidden]. With `peepholes`, as in the paper, i and f see c_{t-1} and o sees c_t, by a weight for each unit
    and place (`PeepholeLSTM`); without, as Keras and Haiku have it. From `activation` on the options are those of `LSTM`, the
    others those of `Convolutional`, which it returns.
    """
    *spatial, channels = _sizes("ConvLSTM", input_size)
    check_switches("ConvLSTM", peepholes=peepholes)
    kind = PeepholeLSTM if peepholes else LSTM
    return Convolutional(
        kind(
            channels,
            hidden_size,
            activation=activation,
            gate_activation=gate_activation,
            cell_activation=cell_activation,
            forget_bias=forget_bias,
            bias=bias,
        ),
        tuple(spatial),
        kernel_size,
        recurrent_kernel_size=recurrent_kernel_size,
        strides=strides,
        padding=padding,
        dilation=dilation,
        untied=("p_i", "p_f", "p_o") if peepholes else (),
    )


def ConvGRU(
    input_size: tuple[int, ...],
    hidden_size: int,
    kernel_size: int | tuple[int, ...],
    *,
    reset_after: bool = False,
    recurrent_kernel_size: int | tuple[int, ...] | None = None,
    strides: int | tuple[int, ...] = 1,
    padding: str = "same",
    dilation: int | tuple[int, ...] = 1,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
    bias: bool = True,
) -> Convolutional:
    """Convolutional GRU (Ballas et al. 2016, "Delving deeper into convolutional networks for learning video
    representations").

        r = σ(x_t * W_xr + h_{t-1} * W_hr + b_r)
        z = σ(x_t * W_xz + h_{t-1} * W_hz + b_z)
        n = φ(x_t * W_xn + b + (r h_{t-1}) * W_hn)                reset_after=False: the paper
        n = φ(x_t * W_xn + b + r (h_{t-1} * W_hn + b_n))          reset_after=True: one convolution of h, as in cuDNN's GRU
        h_t = (1 - z) n + z h_{t-1}
        y_t = h_t

    `input_size` is (*spatial, channels), such as (height, width, 3); x_t [*batch, *spatial, channels], h_t
    [*batch, *spatial', hidden]. z keeps the past when it is open, as in `GRU`; in the paper it is the other way round. From
    `activation` on, and `reset_after`, the options are those of `GRU`, the others those of `Convolutional`, which it returns.
    """
    *spatial, channels = _sizes("ConvGRU", input_size)
    return Convolutional(
        GRU(
            channels,
            hidden_size,
            reset_after=reset_after,
            activation=activation,
            gate_activation=gate_activation,
            bias=bias,
        ),
        tuple(spatial),
        kernel_size,
        recurrent_kernel_size=recurrent_kernel_size,
        strides=strides,
        padding=padding,
        dilation=dilation,
    )


def _sizes(owner: str, input_size: Any) -> tuple[int, ...]:
    if not isinstance(input_size, tuple) or not 2 <= len(input_size) <= 4:
        raise ValueError(
            f"{owner}: input_size is {describe(input_size)}; expected a tuple (*spatial, channels) with one to three spatial axes, "
            "such as (height, width, channels)"
        )
    return input_size
