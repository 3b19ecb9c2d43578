"""Part-of-speech tagging: a tag for each word, by a bidirectional recurrent network over words and their spelling.

    python -m experiments.pos_tagging

gives 95.1 to 95.2 % of the test words of the Hong Kong Cantonese Corpus the right tag (seeds 0 to 2; 66 to 68 % of those not seen
in training), where each word's most frequent tag gives 92.17 %, in four minutes on one core and without a download.

    python -m experiments.pos_tagging --data ewt

gives 95.3 % of those of UD English EWT theirs (seeds 0 to 2; 80 to 81 % of those not seen), where each word's most frequent tag
gives 88.06 %. EWT is the default where a folder of data is given. `--treebank FOLDER` takes any other treebank of
https://universaldependencies.org. A finished run tags what you type in its language:

    python -m experiments.pos_tagging tag --run DIR "The old man the boats."
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jrnn
from experiments.common import pictures, supervised
from experiments.common.command import command
from experiments.common.extras import need
from experiments.common.options import Count, NotNegative, Rate, check_one
from experiments.common.recurrent import RecurrentConfig
from experiments.common.run import Run, Trained, console, open_finished
from experiments.data import hkcancor, treebank
from experiments.data.files import folder_given
from experiments.data.treebank import TAGS, Sentence, Treebank
from experiments.tags import pictures as tag_pictures
from jrnn.data import Batch, Vocabulary, batch_axes
from jrnn.data.vocabulary import PADDING, UNKNOWN
from jrnn.layers import Embedding, Spelled, WordsAndCharacters
from jrnn.losses import Mean
from jrnn.models import Tagger

NAME = "pos_tagging"
VOCABULARY = "vocabulary.json"
TARGET = 0.93  # of the test words of EWT
PUBLISHED = [  # on the test part of an earlier version, words as they are there: github.com/aymara/lima-models, eval.md
    {"system": "UDPipe 1.2 (Straka & Straková 2017)", "accuracy": 0.9443},
    {"system": "UDify, multilingual BERT (Kondratyuk & Straka 2019)", "accuracy": 0.9629},
]
SPELLED = 14  # characters that are read of a word: of a longer one (0.2 % of EWT's) the first and the last seven


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RecurrentConfig, supervised.TrainingConfig):
    """Train a part-of-speech tagger."""

    data: Literal["hkcancor", "ewt"] | None = None
    """The Hong Kong Cantonese Corpus, or UD English EWT; by default EWT where a folder of data is given."""
    treebank: Path | None = None
    """Folder with *-ud-train.conllu, -dev and -test, in place of --data."""
    hidden: Count = 128
    """Units in each direction over the words; over the characters of a word it is --spelling."""
    words: Count = 100
    """Size of a word's own vector."""
    spelling: Count = 32
    """Units in each direction over the characters of a word, and size of a character's vector."""
    dropout: Rate = 0.5
    """Share of features dropped before, between and after the layers over the words."""
    unknown: NotNegative = 0.25
    """A word seen n times is taken for unknown in unknown / (unknown + n) of the cases (Kiperwasser & Goldberg 2016)."""
    crf: bool = False
    """Score the tags of a sentence together, by a conditional random field."""
    epochs: Count = 8
    learning_rate: float = 0.003

    SMOKE: ClassVar[dict[str, Any]] = {"epochs": 1, "hidden": 8, "words": 8, "spelling": 4}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one(self, "data", "treebank")

    def resolved(self) -> Self:
        """With the name of the data that are read."""
        if self.data or self.treebank:
            return self
        return dataclasses.replace(self, data="ewt" if folder_given(self.data_dir) else "hkcancor")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tag(Trained):
    """Tag a sentence of yours."""

    sentence: tyro.conf.Positional[str]
    """The sentence, in the language of the treebank; it is cut at spaces, and as HKCanCor or the Penn Treebank has words."""


class Vocabularies(NamedTuple):
    """What the model knows."""

    words: Vocabulary  # in lower case
    characters: Vocabulary


class Example(NamedTuple):
    """A sentence as integers."""

    words: np.ndarray  # int32 [time]
    characters: np.ndarray  # int32 [time, SPELLED]
    tags: np.ndarray  # int32 [time], places in TAGS


def vocabularies(train: Sequence[Sentence]) -> Vocabularies:
    """Every word and every character of the training part."""
    words = [[word.lower() for word in sentence.words] for sentence in train]
    return Vocabularies(
        Vocabulary.build(words), Vocabulary.build(word for sentence in train for word in sentence.words)
    )


def encode(sentence: Sentence, known: Vocabularies) -> Example:
    characters = np.zeros((len(sentence.words), SPELLED), np.int32)
    for row, word in zip(characters, sentence.words):
        half = SPELLED // 2
        letters = word if len(word) <= SPELLED else word[:half] + word[-half:]
        row[: len(letters)] = known.characters.encode(letters)
    words = known.words.encode(word.lower() for word in sentence.words)
    return Example(words, characters, np.array([TAGS.index(tag) for tag in sentence.tags], np.int32))


def build(config: Config, known: Vocabularies) -> Tagger:
    """Bidirectional layers over words, each its own vector beside what a bidirectional layer makes of its characters."""
    letters = Embedding(len(known.characters), config.spelling)
    spelling = jrnn.Layered((letters, config.make_layer(config.spelling, config.spelling, both_ways=True)))
    embed = WordsAndCharacters(Embedding(len(known.words), config.words), spelling)
    stack = config.make_stack(embed.output_size, both_ways=True, dropout_before=True)
    return Tagger(jrnn.Layered((embed, *stack)), len(TAGS), crf=config.crf)


def make_loss(model: Tagger, train: Sequence[Example], unknown: float) -> Callable[[Any, Batch, Any], Mean]:
    """Nats per tag; in training some words, rare ones above all, are taken for unknown."""
    counts = np.bincount(np.concatenate([example.words for example in train]))
    counts[[PADDING, UNKNOWN]] = np.iinfo(np.int32).max
    forgotten = jnp.asarray(unknown / (unknown + counts), jnp.float32)

    def loss(params: Any, batch: Batch, key: Any) -> Mean:
        words, characters, tags = batch.data
        if key is not None:
            key, forget = jax.random.split(key)
            words = jnp.where(jax.random.bernoulli(forget, forgotten[words]), UNKNOWN, words)
        return model.loss(params, Spelled(words, characters), tags, lengths=jnp.asarray(batch.lengths), key=key)

    return loss


def make_decode(model: Tagger) -> Callable[[Any, Batch], jax.Array]:
    """Places in TAGS of the most likely tags, [time, batch]; compiled once for each shape."""

    def decode(params: Any, batch: Batch) -> jax.Array:
        words, characters, _ = batch.data
        return model.decode(params, Spelled(words, characters), lengths=jnp.asarray(batch.lengths))

    return jax.jit(decode)


def train(run: Run, config: Config) -> None:
    """Train, evaluate the checkpoint that is best on the dev part on the test part, write result.json and pictures."""
    cantonese = config.data == "hkcancor"
    bank = hkcancor.load() if cantonese else treebank.load(config.treebank, data_dir=config.data_dir)
    if bank.left_out:
        console.print(f"{bank.left_out:,} sentences with a word whose tag is missing are left out", style="dim")
    if config.smoke:
        bank = Treebank(bank.name, bank.train[:100], bank.dev[:100], bank.test[:100])
    known = vocabularies(bank.train)
    model = build(config, known)
    params = model.init(jax.random.key(config.seed))
    shapes = 1 if config.smoke else 5
    examples = {part: [encode(sentence, known) for sentence in getattr(bank, part)] for part in treebank.PARTS}
    held_out = {part: supervised.bucketed(examples[part], batch=64, shapes=shapes) for part in ("dev", "test")}
    floors = {part: treebank.most_frequent_tag(bank.train, getattr(bank, part)) for part in held_out}
    decode = make_decode(model)

    def predict(params: Any, part: str) -> list[np.ndarray]:
        return supervised.predict(decode, params, held_out[part], time=True)

    def wrong(params: Any) -> float:
        return 100 * (1 - accuracy(predict(params, "dev"), examples["dev"]))

    run.start({VOCABULARY: {name: words.tokens for name, words in known._asdict().items()}})
    sizes = ", ".join(f"{len(examples[part]):,} {part}" for part in treebank.PARTS)
    console.print(f"{bank.name}: {sizes} sentences; {len(known.words):,} words, {len(known.characters)} characters")
    params, fitted = supervised.train(
        run,
        config,
        params=params,
        loss=make_loss(model, examples["train"], config.unknown),
        batches=supervised.bucketed(examples["train"], batch=config.batch, shapes=shapes, seed=config.seed),
        batch_axes=batch_axes(examples["train"][0]),
        evaluate=wrong,
        unit="nats per word",
        valid_unit="% of the dev words wrong",
        floors={"most frequent tag": 100 * (1 - floors["dev"])},
    )

    predicted = {part: predict(params, part) for part in held_out}
    seen = {word for sentence in bank.train for word in sentence.words}
    measured = {part: measure(predicted[part], getattr(bank, part), seen) for part in held_out}
    metrics = {**measured, "published": PUBLISHED if config.data == "ewt" else []}
    draw(run, bank, predicted["test"], said=hkcancor.jyutping() if cantonese else {})
    said = described(measured, floors, target=TARGET if config.data == "ewt" and not config.smoke else None)
    supervised.finish(run, fitted, said, metrics=metrics, floors=floors)


def accuracy(predicted: Sequence[np.ndarray], examples: Sequence[Example]) -> float:
    """The share of words whose tag is right."""
    return float(np.mean(np.concatenate(predicted) == np.concatenate([example.tags for example in examples])))


def measure(predicted: Sequence[np.ndarray], part: Sequence[Sentence], seen: set[str]) -> dict[str, Any]:
    """Accuracy on all words and on those not `seen` (as they are written) in training, and the F1 of each tag."""
    truth = np.array([TAGS.index(tag) for sentence in part for tag in sentence.tags])
    guess = np.concatenate(predicted)
    new = np.array([word not in seen for sentence in part for word in sentence.words])
    hits, real, found = (np.bincount(tags, minlength=len(TAGS)) for tags in (truth[guess == truth], truth, guess))
    return {
        "accuracy": float(np.mean(guess == truth)),
        "words": len(truth),
        "accuracy_unseen": float(np.mean(guess[new] == truth[new])) if new.any() else None,
        "words_unseen": int(new.sum()),
        "f1": {tag: float(2 * hits[i] / (real[i] + found[i])) for i, tag in enumerate(TAGS) if real[i]},
    }


def draw(run: Run, bank: Treebank, predicted: Sequence[np.ndarray], said: Mapping[str, str]) -> None:
    """Some of the test sentences with their tags, and which tag was taken for which; words in `said` as they are there."""
    truth = [TAGS.index(tag) for sentence in bank.test for tag in sentence.tags]
    pictures.confusion(run.directory / "confusion.png", truth, np.concatenate(predicted).tolist(), TAGS)
    lines = [
        tag_pictures.Line([said.get(word, word) for word in sentence.words], [TAGS[tag] for tag in tags], sentence.tags)
        for sentence, tags in zip(bank.test, predicted)
    ]
    lines = [line for line in lines if 6 <= len(line.tags) <= 18] or lines
    name = f"{bank.name} in Jyutping" if said else bank.name
    title = f"{name}: test sentences at even distances; red: wrong, with the right tag beneath"
    tag_pictures.draw(run.directory / "sentences.png", lines[:: -(-len(lines) // 14)], title)


def described(measured: dict[str, Any], floors: dict[str, float], *, target: float | None) -> str:
    lines = []
    for part, found in measured.items():
        unseen = "none unseen"
        if found["words_unseen"]:
            unseen = f"of the {found['words_unseen']:,} unseen in training {found['accuracy_unseen']:.1%}"
        lines.append(f"{part}: {found['accuracy']:.2%} of {found['words']:,} words right, {unseen}")
    score = measured["test"]["accuracy"]
    goal = "" if target is None else f"; target {target:.0%}: {'reached' if score >= target else 'NOT reached'}"
    return "\n".join([*lines, f"test: each word's most frequent tag {floors['test']:.2%}, this run {score:.2%}{goal}"])


def tag(options: Tag) -> None:
    """Print a sentence with the tags that a trained model gives its words."""
    run, config = open_finished(options.run, NAME, Config)
    stored = run.read(VOCABULARY)
    known = Vocabularies(*(Vocabulary(tuple(stored[name])) for name in Vocabularies._fields))
    words = (hkcancor.words_of if config.data == "hkcancor" else cut)(options.sentence)
    if not words:
        raise ValueError("the sentence is empty; expected at least one word to tag")
    model = build(config, known)
    params = supervised.restore(run, model.init(jax.random.key(0)))
    example = encode(Sentence(words, ["X"] * len(words)), known)
    (places,) = supervised.predict(make_decode(model), params, supervised.bucketed([example], batch=1), time=True)
    console.print(tag_pictures.shown(words, [TAGS[place] for place in places]))


def cut(sentence: str) -> list[str]:
    """Words as the Penn Treebank has them ("can't" is "ca" and "n't"), each as it was typed."""
    tokenizer = need("nltk.tokenize", "english").NLTKWordTokenizer()  # slow to import
    return [sentence[start:end] for start, end in tokenizer.span_tokenize(sentence)]


main = command(NAME, Config, train, also={"tag": (Tag, tag)})

if __name__ == "__main__":
    main()
