"""Music: polyphonic piano rolls, each frame predicted from those before it; it composes, as MIDI.

    python -m experiments.music

learns from the chorales of Bach that music21 ships (needs no download). The piano rolls of published results:

    python -m experiments.music --data jsb
    python -m experiments.music --data nottingham

`roll.png` shows a piece that was held out, what was expected of each frame, and how the model goes on by itself. A finished run
composes: `python -m experiments.music compose --run DIR --seed 3 --out piece.mid`. Your own MIDI files: `--files DIR`.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jrnn
from experiments.common import supervised
from experiments.common.command import command
from experiments.common.options import Count, Limit, NewFile, Rate, check_value
from experiments.common.recurrent import Cell, RecurrentConfig
from experiments.common.run import Run, Trained, console, open_finished
from experiments.data import midi, piano_rolls
from experiments.data.midi import KEYS
from experiments.rolls import pictures
from jrnn import losses
from jrnn.data import batch_axes

NAME = "music"
PRIMES = "primes.json"
TARGETS = {"jsb": 8.45, "nottingham": 3.29}
DEFAULTS = {
    "bach": {"hidden": 200, "dropout": 0.4, "transpose": 5, "epochs": 40},
    "jsb": {"hidden": 400, "dropout": 0.5, "transpose": 0, "epochs": 50},
    "nottingham": {
        "hidden": 256, "layers": 2, "dropout": 0.3, "transpose": 0, "epochs": 30, "window": 128, "learning_rate": 0.003,
    },
}  # fmt: skip
ALIKE = {"layers": 1, "window": 256, "learning_rate": 0.002}

Semitones = Annotated[int, Limit("0 to 11 semitones", lambda value: 0 <= value < 12)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RecurrentConfig, supervised.TrainingConfig):
    """Train a composer."""

    data: piano_rolls.Corpus = "bach"
    """Chorales that come with music21, the chorales of published results, or folk tunes with chords."""
    files: Path | None = None
    """A folder of MIDI files, in place of --data; the last tenth tests, the one before validates."""
    beats: float | None = None
    """Of --files, quarter notes in a frame; by default a half."""
    cell: Cell = "lstm"
    hidden: Count | None = None
    """Units in each layer; by default 200 for bach and files, 400 for jsb, 256 for nottingham."""
    layers: Count | None = None
    """Recurrent layers, one on top of the other; by default 1, for nottingham 2."""
    dropout: Rate | None = None
    """Share of features dropped after layers, the same in all frames; by default 0.4, for jsb 0.5, for nottingham 0.3."""
    transpose: Semitones | None = None
    """Each piece is moved by up to so many semitones, anew each time it is trained on; by default 5 for bach and files, else 0:
    the others are in C, all of them."""
    window: Count | None = None
    """Frames of a piece that are trained on at once; longer pieces are cut. By default 256, for nottingham 128."""
    batch: Count = 4
    learning_rate: float | None = None
    """Peak of AdamW's learning rate; by default 0.002, for nottingham 0.003."""
    weight_decay: float = 0.01
    epochs: Count | None = None
    """Passes over the training data; by default 40, for jsb 50, for nottingham 30."""

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 8, "epochs": 1, "window": 16}

    def resolved(self) -> Self:
        return self.filled(ALIKE | DEFAULTS["bach" if self.files else self.data])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compose(Trained):
    """Write a piece with a trained model, as a MIDI file, with a picture beside it."""

    out: NewFile
    """The MIDI file, with a picture beside it; neither may exist yet."""
    length: Count = 128
    """Frames to write."""
    prime: Count = 8
    """Frames of a held-out piece that it begins with."""
    piece: Annotated[int, Limit("0 or more", lambda value: value >= 0)] = 0
    """Which of the held-out pieces."""
    temperature: Annotated[float, Limit("above 0", lambda value: value > 0)] = 1.0
    """Below 1 the likely becomes likelier: of keys that are drawn one by one, mostly silence."""
    tempo: Annotated[float, Limit("above 0", lambda value: value > 0)] = 90.0
    """Quarter notes a minute."""
    seed: int = 0
    """Of the draw."""


class Piece(NamedTuple):
    """A piece of music, or a part of one."""

    roll: np.ndarray  # float32 [time, 88]


def build(config: Config) -> jrnn.Layered:
    """Recurrent layers with variational dropout after each, and 88 logits."""
    stack = config.make_stack(KEYS, dropout_before=False, variational=True)
    return jrnn.Layered((*stack, jrnn.Dense(config.hidden or 0, KEYS)))


def pieces(rolls: list[np.ndarray], window: int | None = None) -> list[Piece]:
    """Whole, or in parts of `window` predicted frames that share the frame between them."""
    whole = [Piece(roll.astype(np.float32)) for roll in rolls if len(roll) > 1]
    if window is None:
        return whole
    starts = [(piece.roll, start) for piece in whole for start in range(0, len(piece.roll) - 1, window)]
    return [Piece(roll[start : start + window + 1]) for roll, start in starts]


def make_loss(model: jrnn.Layered, transpose: int) -> Any:
    """Nats a frame, summed over the keys, of all frames but a piece's first."""

    def loss(params: Any, batch: Any, key: jax.Array | None) -> losses.Mean:
        roll = batch.data.roll
        if key is not None and transpose:
            key, own = jax.random.split(key)
            roll = transposed(roll, jax.random.randint(own, batch.lengths.shape, -transpose, transpose + 1))
        lengths = jnp.maximum(batch.lengths - 1, 0)
        _, logits = model.apply(params, roll[:-1], lengths=lengths, key=key)
        real = jnp.arange(len(roll) - 1)[:, None] < lengths
        return losses.binary_cross_entropy(logits, roll[1:], real)

    return loss


def transposed(roll: jax.Array, semitones: jax.Array) -> jax.Array:
    """`roll` [time, batch, 88] moved up by `semitones` [batch], or as far as its keys stay on the piano."""
    keys = jnp.arange(KEYS)
    used = roll.max(0) > 0
    low = jnp.where(used, keys, KEYS - 1).min(-1)
    high = jnp.where(used, keys, 0).max(-1)
    moved = jnp.clip(semitones, -low, KEYS - 1 - high)
    places = (keys[None] - moved[:, None]) % KEYS
    return jnp.take_along_axis(roll, jnp.broadcast_to(places[None], roll.shape), axis=-1)


def compose(
    model: jrnn.Layered, params: Any, prime: np.ndarray, key: jax.Array, *, length: int, temperature: float
) -> np.ndarray:
    """`prime` [time, 88] and `length` more frames, each key of a frame drawn on its own given all before: bool."""
    state, logits = model.apply(params, jnp.asarray(prime, jnp.float32))

    def step(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        state, logits = carry
        frame = jax.random.bernoulli(key, jax.nn.sigmoid(logits / temperature)).astype(jnp.float32)
        return model.step(params, state, frame), frame

    written = lax.scan(step, (state, logits[-1]), jax.random.split(key, length))[1]
    return np.concatenate([prime, np.asarray(written)]) > 0.5


def train(run: Run, config: Config) -> None:
    """Train, score the test part with the best checkpoint, write result.json, the picture and a piece."""
    where: dict[str, Any] = {"files": config.files, "beats": config.beats, "data_dir": config.data_dir}
    corpus = piano_rolls.load(config.data, **where, most=40 if config.smoke else None)
    if config.smoke:
        corpus = corpus._replace(train=corpus.train[:20], valid=corpus.valid[:4], test=corpus.test[:4])
    parts = {
        "train": pieces(corpus.train, config.window),
        "valid": pieces(corpus.valid),
        "test": pieces(corpus.test),
    }
    held_out = {"valid": corpus.valid, "test": corpus.test}
    floors = {part: piano_rolls.markov_floor(corpus.train, rolls) for part, rolls in held_out.items()}
    model = build(config)
    loss, axes = make_loss(model, config.transpose or 0), batch_axes(parts["train"][0])
    longest = max(corpus.test, key=len)
    run.start(
        {PRIMES: {"beats": corpus.beats, "rolls": [np.argwhere(roll[:64]).tolist() for roll in corpus.test[:20]]}}
    )
    console.print(
        f"{corpus.name}: {len(corpus.train):,} pieces to train on, {len(corpus.valid):,} held out, {len(corpus.test):,} to test; "
        f"each key by whether it was on: {floors['test']:.2f} nats a frame"
    )
    shapes = 1 if config.smoke else 4

    def mean_loss(part: str) -> Any:
        batches = list(supervised.bucketed(parts[part], batch=min(32, len(parts[part])), shapes=shapes))
        return supervised.mean_loss(loss, batches, batch_axes=axes)

    evaluate = {part: mean_loss(part) for part in held_out}
    best, fitted = supervised.train(
        run,
        config,
        params=model.init(jax.random.key(config.seed)),
        loss=loss,
        batches=supervised.bucketed(parts["train"], batch=config.batch, shapes=shapes, seed=config.seed),
        batch_axes=axes,
        evaluate=evaluate["valid"],
        unit="nats a frame",
        floors={"each key by whether it was on": floors["valid"]},
    )
    nats = {part: evaluate[part](best) for part in held_out}
    target = None if config.files or config.smoke else TARGETS.get(config.data)
    beside = "" if target is None else f"; target {target} {'reached' if nats['test'] <= target else 'NOT reached'}"
    written = compose(model, best, longest[:16], jax.random.key(config.seed), length=112, temperature=1.0)
    expected = np.asarray(jax.nn.sigmoid(model.apply(best, jnp.asarray(longest[:127], jnp.float32))[1]))
    pictures.rolls(
        run.directory / "roll.png",
        [
            ("a piece that was held out", longest[:128]),
            ("what was expected of each frame, given those before", np.concatenate([longest[:1], expected])),
            ("how the model goes on after 16 frames", written),
        ],
        mark=16,
    )
    text = f"test: {nats['test']:.3f} nats a frame; each key by whether it was on {floors['test']:.2f}{beside}"
    supervised.finish(
        run, fitted, text, metrics={"nats_per_frame": nats}, floors={f"Markov {k}": v for k, v in floors.items()}
    )


def write(options: Compose) -> None:
    """Write a piece."""
    picture = options.out.with_suffix(".png")
    check_value("out", picture, NewFile)
    if options.out.suffix.lower() not in (".mid", ".midi"):
        raise ValueError(f"--out is {options.out}; expected a name that ends in .mid")
    run, config = open_finished(options.run, NAME, Config)
    known = run.read(PRIMES)
    if options.piece >= len(known["rolls"]):
        raise ValueError(f"--piece is {options.piece}; expected 0 to {len(known['rolls']) - 1}: so many are kept")
    places = np.array(known["rolls"][options.piece], int).reshape(-1, 2)
    roll = np.zeros((places[:, 0].max(initial=0) + 1, KEYS), bool)
    roll[places[:, 0], places[:, 1]] = True
    if options.prime > len(roll):
        raise ValueError(
            f"--prime is {options.prime}; expected 1 to {len(roll)}: so many frames of --piece {options.piece} are kept"
        )
    prime = roll[: options.prime]
    model = build(config)
    params = supervised.restore(run, model.init(jax.random.key(0)))
    key = jax.random.key(options.seed)
    written = compose(model, params, prime, key, length=options.length, temperature=options.temperature)
    midi.write(options.out, written, known["beats"], tempo=options.tempo)
    pictures.rolls(picture, [(f"after {len(prime)} frames of a held-out piece", written)], mark=len(prime))
    minutes = len(written) * known["beats"] / options.tempo
    console.print(f"{options.out}: {len(written)} frames, {60 * minutes:.0f} seconds; {picture}")


main = command(NAME, Config, train, also={"compose": (Compose, write)})

if __name__ == "__main__":
    main()
