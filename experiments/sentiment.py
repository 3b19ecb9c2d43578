"""Sentiment, or any other label of a sentence: many steps in, one label out.

A recurrent network, without pretrained word vectors, reads a sentence of a film's review and says how likely it is to be positive.
Share right on the test part, and what it takes on two cores:

    python -m experiments.sentiment --fold 0 (to 9)                         76.8 %  (Movie Reviews, ten folds)    0.7 min each
    python -m experiments.sentiment --corpus sst2 --epochs 4 --batch 100    84.8 %  (SST-2, seeds 0, 1, 2)        1.6 min each

Naive Bayes over which words a sentence has, computed by the script, comes to 77.5 % and 82.9 %; a convolutional network without
pretrained vectors to 75.9 % and 83.5 % (github.com/harvardnlp/sent-conv-torch, after Kim 2014). So on the 8,528 sentences of
Movie Reviews the network knows no more than counts do; on the treebank, where it sees every phrase rated, it does.

`--data FILE` reads sentences with any labels of your own, a label and its sentence on each line, and tests on a tenth of them, or
on `--test FILE`. The six kinds of question of TREC, say, whose labels are such as NUM:date (`--coarse`: such as NUM):

    python -m experiments.sentiment --data TREC.train --test TREC.test --coarse --encoding latin-1 --epochs 20

It gets 90.3 % of the 500 test questions right (seeds 0, 1, 2; 1.1 min on one core), the convolutional network 91.2 % (Kim 2014) and
naive Bayes 75.6 %.

`python -m experiments.sentiment score --run DIR "a film that ..."` shows how a finished run's opinion of a sentence changes
word by word.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jrnn
from experiments.common import pictures, supervised
from experiments.common.command import command
from experiments.common.options import Count, Encoding, NewFile, Rate
from experiments.common.recurrent import POOLINGS, Pooling, RecurrentConfig
from experiments.common.run import Run, Trained, console, open_finished
from experiments.common.supervised import TrainingConfig, predict
from experiments.data import sentences
from experiments.data.sentences import Part
from experiments.data.vectors import read_vectors
from experiments.sentences.pictures import turning, unfolding
from jrnn import losses
from jrnn.data import Vocabulary, batch_axes
from jrnn.data.vocabulary import UNKNOWN
from jrnn.layers import Embedding, pretrained
from jrnn.models import Classifier

NAME = "sentiment"
VOCABULARY = "vocabulary.json"
CLASSES = "classes.json"
PUBLISHED = {"mr": 0.759, "sst2": 0.835}
"""Kim's CNN without pretrained vectors as github.com/harvardnlp/sent-conv-torch has it, on `mr` the mean of ten folds."""
SENTENCES = (
    "a warm , funny film that never loses its way .",
    "the actors are wonderful , but the story is a dull , tedious mess .",
    "the plot is silly and predictable , but i enjoyed every moment of it .",
    "this is not a bad movie .",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RecurrentConfig, TrainingConfig):
    """Train a classifier of sentences."""

    corpus: Literal["mr", "sst2"] = "mr"
    """Movie Reviews, or the Stanford Sentiment Treebank in two classes."""
    data: Path | None = None
    """Sentences of your own in place of --corpus: a label, any word, and the words of the sentence on each line."""
    test: Path | None = None
    """Such a file to test on; without it a tenth of --data."""
    coarse: bool = False
    """Whether a label of --data is what stands before its first colon: NUM of NUM:date."""
    encoding: Encoding = "utf-8"
    """Of your own text: latin-1, cp1252 and so on."""
    fold: int = 0
    """Which tenth of the sentences to test on, 0 to 9, or, with --test, to hold out (sst2 has parts of its own)."""
    phrases: bool = True
    """Whether to train on all phrases of the treebank, or on whole sentences alone."""
    bidirectional: bool = True
    """Whether to read backwards too."""
    hidden: Count = 64
    """Units in each direction."""
    embedding: Count = 128
    """Size of the vector that stands for a word."""
    vectors: Path | None = None
    """Word vectors to start from, a text file of GloVe or word2vec; --embedding is their size."""
    pooling: Pooling = "mean"
    """What the sentence comes to: the last output of each direction, or the mean, maximum or weighted mean of all."""
    dropout: Rate = 0.5
    """Share of features dropped before, between and after the layers, the same at every word of a sentence."""
    word_dropout: Rate = 0.1
    """Share of words replaced by the unknown word in training."""
    min_count: Count = 1
    """A word seen less often in training is unknown."""
    batch: Count = 50
    epochs: Count = 5
    learning_rate: float = 0.002

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 8, "embedding": 8, "batch": 20, "epochs": 2, "vectors": None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score(Trained):
    """Show what a sentence is likely to be, after each of its words."""

    sentence: Annotated[str, tyro.conf.Positional]
    """The sentence, in quotes."""
    picture: NewFile | None = None
    """Write it as a picture, too."""


class Example(NamedTuple):
    """A sentence and what it is."""

    words: Any  # int32 [time]; of a batch [time, batch]
    label: Any  # int32 []: a place in the classes; of a batch [batch]


def build(config: Config, vocabulary: Vocabulary, classes: int) -> Classifier:
    """Embedding, recurrent layers with variational dropout around each (Gal & Ghahramani 2016), pooling, classes."""
    stack = config.make_stack(config.embedding, both_ways=config.bidirectional, dropout_before=True, variational=True)
    layers = (Embedding(len(vocabulary), config.embedding), *stack)
    return Classifier(jrnn.Layered(layers), classes, pooling=POOLINGS[config.pooling](config.hidden))


def start(model: Classifier, config: Config, vocabulary: Vocabulary) -> Any:
    """Parameters before training, with the word vectors of --vectors."""
    params = model.init(jax.random.key(config.seed))
    if config.vectors is None:
        return params
    embedding, *rest = params.layer
    vectors = read_vectors(config.vectors, vocabulary.tokens, config.embedding)
    console.print(f"{config.vectors}: vectors of {len(vectors):,} words of {len(vocabulary):,}")
    return params._replace(layer=(pretrained(embedding, vocabulary.tokens, vectors), *rest))


def encode(part: Part, vocabulary: Vocabulary) -> list[Example]:
    return [Example(vocabulary.encode(words), np.int32(label)) for words, label in zip(part.sentences, part.labels)]


def make_loss(model: Classifier, word_dropout: float) -> Any:
    """Cross-entropy of a batch, some of its words hidden while there is a key (Iyyer et al. 2015)."""

    def loss(params: Any, batch: Any, key: jax.Array | None) -> losses.Mean:
        words, labels = batch.data
        if key is not None:
            key, hide = jax.random.split(key)
            words = jnp.where(jax.random.bernoulli(hide, word_dropout, words.shape), UNKNOWN, words)
        return model.loss(params, words, labels, lengths=batch.lengths, key=key)

    return loss


def naive_bayes(train: Part, part: Part) -> float:
    """Accuracy on `part` of naive Bayes over which words a sentence has (Wang & Manning 2012): the floor, counts alone."""
    from sklearn.feature_extraction.text import CountVectorizer  # slow to import
    from sklearn.naive_bayes import MultinomialNB

    words = CountVectorizer(analyzer=set)  # type: ignore[arg-type]
    model = MultinomialNB().fit(words.fit_transform(train.sentences), train.labels)
    return float(model.score(words.transform(part.sentences), part.labels))


def most_frequent(train: Part, part: Part) -> float:
    """Accuracy on `part` of the label most frequent in `train`."""
    return float(np.mean(np.equal(part.labels, np.bincount(train.labels).argmax())))


def make_unfold(model: Classifier, params: Any, vocabulary: Vocabulary) -> Any:
    """`unfold(words) -> [words, classes]`: how likely each class would be if the sentence ended after each word."""

    @jax.jit
    def beginnings(words: jax.Array) -> jax.Array:
        time = len(words)
        rows = jnp.broadcast_to(words[:, None], (time, time))
        return jax.nn.softmax(model.apply(params, rows, lengths=jnp.arange(1, time + 1)))

    def unfold(words: Sequence[str]) -> np.ndarray:
        padded = np.pad(vocabulary.encode(words), (0, -len(words) % 16))  # few lengths to compile
        return np.asarray(beginnings(padded))[: len(words)]

    return unfold


def load(config: Config) -> sentences.Sentences:
    """The corpus of a run; what is odd about it is said on the console."""
    corpus = sentences.load(
        config.corpus,
        file=config.data,
        test=config.test,
        coarse=config.coarse,
        encoding=config.encoding,
        fold=config.fold,
        phrases=config.phrases,
        data_dir=config.data_dir,
    )
    if corpus.left_out:
        console.print(f"{corpus.left_out:,} lines without words are left out", style="dim")
    if config.smoke:
        corpus = corpus._replace(**{name: some(getattr(corpus, name), 200) for name in ("train", "valid", "test")})
    unseen = set(corpus.test.labels) - set(corpus.train.labels)
    if unseen:
        count = sum(label in unseen for label in corpus.test.labels)
        names = ", ".join(corpus.classes[label] for label in sorted(unseen))
        console.print(f"{count:,} sentences to test on have labels never seen in training, and count as wrong: {names}")
    return corpus


def train(run: Run, config: Config) -> None:
    """Train, test the best checkpoint, write result.json and the pictures."""
    corpus = load(config)
    vocabulary = Vocabulary.build(corpus.train.sentences, min_count=config.min_count)
    parts = {"valid": corpus.valid, "test": corpus.test}
    floors = {part: naive_bayes(corpus.train, held_out) for part, held_out in parts.items()}

    model = build(config, vocabulary, len(corpus.classes))
    params = start(model, config, vocabulary)
    examples = encode(corpus.train, vocabulary)
    held_out = {part: list(supervised.bucketed(encode(parts[part], vocabulary), batch=100, shapes=2)) for part in parts}
    classify = jax.jit(lambda params, batch: model.apply(params, batch.data.words, lengths=batch.lengths).argmax(-1))

    def accuracy(params: Any, part: str) -> float:
        return float(np.mean(np.equal(predict(classify, params, held_out[part]), parts[part].labels)))

    run.start({VOCABULARY: vocabulary.tokens, CLASSES: corpus.classes})
    console.print(
        f"{corpus.name}: {len(examples):,} examples to train on, {len(corpus.valid.labels):,} to select on, "
        f"{len(corpus.test.labels):,} to test on; {len(vocabulary):,} words, {len(corpus.classes)} labels\n"
        f"naive Bayes: {100 * floors['valid']:.1f} % right of those to select on"
    )
    best, fitted = supervised.train(
        run,
        config,
        params=params,
        loss=make_loss(model, config.word_dropout),
        batches=supervised.bucketed(examples, batch=config.batch, seed=config.seed),
        batch_axes=batch_axes(examples[0]),
        evaluate=lambda params: 1 - accuracy(params, "valid"),
        unit="nats",
        valid_unit="share wrong",
        floors={"naive Bayes": 1 - floors["valid"]},
    )
    right = {part: accuracy(best, part) for part in parts}
    draw(run.directory, make_unfold(model, best, vocabulary), corpus, ours=config.data is None)
    found = [int(label) for label in predict(classify, best, held_out["test"])]
    pictures.confusion(run.directory / "confusion.png", corpus.test.labels, found, corpus.classes)
    published = None if config.data or config.smoke else PUBLISHED[config.corpus]
    beside = "" if published is None else f"; published {100 * published:.1f} %"
    frequent = most_frequent(corpus.train, corpus.test)
    supervised.finish(
        run,
        fitted,
        f"test: {100 * right['test']:.1f} % of {len(corpus.test.labels):,} right (validation {100 * right['valid']:.1f} %); "
        f"naive Bayes {100 * floors['test']:.1f} %: {'above' if right['test'] > floors['test'] else 'NOT above'} the floor; "
        f"the most frequent label {100 * frequent:.1f} %{beside}",
        metrics={"accuracy": right, "published": published, "split": split(config)},
        floors={**{f"naive Bayes {part}": value for part, value in floors.items()}, "most frequent label": frequent},
    )


def draw(directory: Path, unfold: Any, corpus: sentences.Sentences, *, ours: bool) -> None:
    """unfolding.png: sentences of `SENTENCES` where they are `ours` to choose, and of the test part those that turn the most."""
    shown = [(sentence.split(), "") for sentence in SENTENCES if ours]
    held_out = turning(unfold, corpus.test)
    shown += [(words, f"held out, {corpus.classes[label]}") for words, label in held_out]
    if shown:
        unfolding(directory / "unfolding.png", unfold, corpus.classes, shown)


def split(config: Config) -> str:
    """In words, for result.json."""
    if config.data is None and config.corpus == "sst2":
        return f"official, {'all phrases' if config.phrases else 'whole sentences'} of the training part"
    if config.test is not None:
        return f"a test file of its own, validation fold {config.fold} of 10 (sentence i is in fold i mod 10)"
    return f"test fold {config.fold} of 10 (sentence i is in fold i mod 10), validation the fold after it"


def some(part: Part, count: int) -> Part:
    """About `count` examples from all over the part."""
    stride = max(len(part.labels) // count, 1)
    return Part(part.sentences[::stride], part.labels[::stride])


def score(options: Score) -> None:
    """Print what is likely after each word of a sentence."""
    run, config = open_finished(options.run, NAME, Config)
    vocabulary, classes = Vocabulary(tuple(run.read(VOCABULARY))), run.read(CLASSES)
    words = sentences.words_as_known(options.sentence, vocabulary)
    if not words:
        raise ValueError(f"the sentence is {options.sentence!r}, without a word; expected at least one")
    model = build(config, vocabulary, len(classes))
    params = supervised.restore(run, model.init(jax.random.key(0)))
    likely = make_unfold(model, params, vocabulary)(words)
    if options.picture:
        unfolding(options.picture, lambda _: likely, classes, [(words, "")])
    two = len(classes) == 2
    print(f"likely to be {classes[1]}, after each word" if two else "likeliest label, after each word")
    wide = max(map(len, classes))
    for word, shares in zip(words, likely):
        place = 1 if two else int(shares.argmax())
        name = "" if two else f"  {classes[place]:{wide}}"
        bar = "█" * round(20 * float(shares[place]))
        print(
            f"{100 * shares[place]:5.1f} %{name}  {bar:20}  {word}{'' if word in vocabulary else '  (not a known word)'}"
        )
    print(
        "; ".join(
            f"{classes[place]}: {100 * likely[-1, place]:.1f} %" for place in np.argsort(-likely[-1])[: 1 if two else 3]
        )
    )


main = command(NAME, Config, train, also={"score": (Score, score)})

if __name__ == "__main__":
    main()
