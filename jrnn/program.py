"""A traced function as a value: its equations can be read, divided, and run with others in place of some primitives."""

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer, eval_jaxpr
from jax.extend.core import Literal, jaxprs_in_params
from jax.sharding import NamedSharding, PartitionSpec

from .arrays import is_key

Rules = dict[str, Callable[[Any, list[Any]], Any]]
"""By the name of a primitive: `rule(equation, operands) -> result`, which is run in its place."""


class Program:
    """A function traced for arguments like `examples`: `program(*arguments)` runs it.

    Values of an outer trace that the function closes over (a slope that is being differentiated) are not part of the
    program, or no derivative would reach them: they are `closed_over`, and the first argument of `program` takes their
    place.
    """

    def __init__(self, f: Callable[..., Any], *examples: Any):
        closed, self.out = jax.make_jaxpr(f, return_shape=True)(*_on_mesh(examples))
        jaxpr = closed.jaxpr
        pairs = list(zip(jaxpr.constvars, closed.consts, strict=True))
        lifted = [(variable, value) for variable, value in pairs if isinstance(value, Tracer)]
        self.closed_over = [value for _, value in lifted]
        self.consts = [value for _, value in pairs if not isinstance(value, Tracer)]
        kept = [variable for variable, value in pairs if not isinstance(value, Tracer)]
        ends = itertools.accumulate((len(jax.tree.leaves(example)) for example in examples), initial=0)
        self.inputs = [jaxpr.invars[start:end] for start, end in itertools.pairwise(ends)]
        """The variables of each argument."""
        if lifted:
            first = [variable for variable, _ in lifted]
            # Since jax 0.12 a jaxpr holds its constants, and takes variables without them for arguments.
            held: dict[str, Any] = {"consts": self.consts} if hasattr(jaxpr, "consts") else {}
            jaxpr = jaxpr.replace(constvars=kept, invars=[*first, *jaxpr.invars], **held)
        self.jaxpr = jaxpr
        self.structure = jax.tree.structure(self.out)

    def __call__(self, closed_over: list[Any], *arguments: Any, rules: Rules | None = None) -> Any:
        leaves = [*closed_over, *jax.tree.leaves(arguments)]
        return jax.tree.unflatten(self.structure, evaluate(self.jaxpr, self.consts, leaves, rules or {}))

    def returning(self, ends: list[Any]) -> "Program":
        """The same program, returning the list of these variables."""
        other = copy.copy(self)
        other.jaxpr = self.jaxpr.replace(outvars=list(ends))
        other.out = [jax.ShapeDtypeStruct(end.aval.shape, end.aval.dtype) for end in ends]
        other.structure = jax.tree.structure(other.out)
        return other

    def reads(self, argument: int) -> bool:
        """Whether the result depends on that argument at all."""
        own = set(self.inputs[argument])
        read = itertools.chain(self.jaxpr.outvars, *(equation.invars for equation in self.jaxpr.eqns))
        return not own.isdisjoint(variables(read))


def shapes(f: Callable[..., Any], *examples: Any) -> Any:
    """`jax.eval_shape`, for examples of another trace."""
    return jax.eval_shape(f, *_on_mesh(examples))


def _on_mesh(examples: Any) -> Any:
    """The examples, shapes among them on the mesh at hand where it has manual axes and automatic ones: JAX 0.10 gives shapes
    that say along which axes they vary but not of which mesh, and does not take them itself."""
    mesh = jax.sharding.get_abstract_mesh()
    if not (mesh.manual_axes and mesh.auto_axes):
        return examples
    placed = NamedSharding(mesh, PartitionSpec())

    def one(leaf: Any) -> Any:
        return leaf.update(sharding=leaf.sharding or placed) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf

    return jax.tree.map(one, examples)


def run_by_rules(f: Callable[..., Any], rules: Rules, *arguments: Any) -> Any:
    """`f(*arguments)`, where `rules` take the place of primitives."""
    program = Program(f, *arguments)
    return program(program.closed_over, *arguments, rules=rules)


def run_on_part(f: Callable[[jax.Array], Any], part: jax.Array, before: int, after: int) -> Any:
    """`f(x)` of x with so many zeros before and after `part` in its last axis; products that f makes of x leave the zeros out."""
    around = [(0, 0, 0)] * (part.ndim - 1) + [(before, after, 0)]
    x = lax.pad(part, jnp.zeros((), part.dtype), around)

    def product(equation: Any, factors: list[Any]) -> Any:
        (of_x, of_weights), batch = equation.params["dimension_numbers"]
        if factors[0] is x and of_x == (x.ndim - 1,) and not any(batch):
            weights = lax.slice_in_dim(factors[1], before, before + part.shape[-1], axis=of_weights[0])
            factors = [part, weights]
        return equation.primitive.bind(*factors, **equation.params)

    return run_by_rules(f, {"dot_general": product}, x)


def evaluate(jaxpr: Any, consts: list[Any], arguments: list[Any], rules: Rules) -> list[Any]:
    """What a jaxpr computes, by `rules`."""
    if not any(equation.primitive.name in rules for equation in jaxpr.eqns):
        return eval_jaxpr(jaxpr, consts, *arguments)
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        if equation.primitive.name in rules:
            made = [rules[equation.primitive.name](equation, list(map(value, equation.invars)))]
        else:
            reads = list(dict.fromkeys(variables(equation.invars)))
            alone = jaxpr.replace(constvars=[], invars=reads, outvars=equation.outvars, eqns=[equation])
            made = eval_jaxpr(alone, [], *map(value, reads))
        values.update(zip(equation.outvars, made, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def variables(atoms: Iterable[Any]) -> list[Any]:
    """The atoms that are variables, not literals."""
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def depending(jaxpr: Any, inputs: Iterable[Any]) -> set[Any]:
    """The variables that depend on any of `inputs`, these included."""
    found = set(inputs)
    for equation in jaxpr.eqns:
        if not found.isdisjoint(variables(equation.invars)):
            found.update(equation.outvars)
    return found


def largest(jaxpr: Any, inputs: Iterable[Any]) -> int:
    """The number of entries of the largest array made of `inputs`; 0 where it is symbolic."""
    found = depending(jaxpr, inputs)
    sizes = [end.aval.size for equation in jaxpr.eqns for end in equation.outvars if end in found]
    return max((size for size in sizes if isinstance(size, int)), default=0)


def is_affine(f: Callable[[Any], Any], x: Any) -> bool:
    """Whether `f` is seen to be a linear function of `x` plus a constant: its derivative reads nothing of where it is taken."""
    program = Program(lambda at, slope: jax.jvp(f, (at,), (slope,))[1], x, x)
    return depending(program.jaxpr, program.inputs[0]).isdisjoint(variables(program.jaxpr.outvars))


def multiplications(jaxpr: Any) -> int:
    """How many the products of matrices and the convolutions of a jaxpr take."""
    return sum(map(_multiplications, jaxpr.eqns))


def _multiplications(equation: Any) -> int:
    made = equation.outvars[0].aval.size if equation.outvars else 0
    if equation.primitive.name == "dot_general":
        (summed, _), _ = equation.params["dimension_numbers"]
        return made * math.prod(equation.invars[0].aval.shape[axis] for axis in summed)
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        return made * (kernel.size // kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]])
    return 0


INLINED = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call")
"""Primitives that run another jaxpr once, as it stands."""


def is_straight(jaxpr: Any) -> bool:
    """Whether a jaxpr is a straight line of primitives, each with a derivative of JAX's own.

    Not where it has control flow, a rule for reverse mode alone (`jax.custom_vjp`), a callback, a check or another
    effect, or where it talks to other devices.
    """
    return not jaxpr.effects and all(map(_is_straight, jaxpr.eqns))


def _is_straight(equation: Any) -> bool:
    name, inner = equation.primitive.name, list(jaxprs_in_params(equation.params))
    if name in INLINED:
        return all(map(is_straight, inner))
    axes = [equation.params.get(parameter) for parameter in ("axes", "axis_name", "axis_names")]
    named = any(isinstance(axis, str) for some in axes for axis in (some if isinstance(some, tuple) else (some,)))
    keys = [str(atom.aval.dtype) for atom in equation.invars if is_key(atom.aval)]
    drawn_otherwise = name == "rng_bit_generator" or any("fry" not in key for key in keys if name.startswith("random_"))
    return not inner and "callback" not in name and not drawn_otherwise and (not named or name == "pvary")
