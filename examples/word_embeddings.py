"""Learn word vectors from a text; show what is near what.

python examples/word_embeddings.py                     # the prose of Python's own reference
python examples/word_embeddings.py my-text.txt --architecture cbow --words king queen --analogy he his she
python examples/word_embeddings.py my-text.txt --map words.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tensorgrad.data import read_text
from tensorgrad.models.corpus import python_reference
from tensorgrad.models.embedding import ARCHITECTURES, WordEmbedding, train
from tensorgrad.models.words import WordVocabulary


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Learn word vectors from a text; show what is near what.")
    parser.add_argument("text", nargs="?", help="a file in UTF-8; by default the prose of Python's reference")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="skip-gram")
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--min-count", type=int, default=5, help="how often a word must come")
    parser.add_argument("--window", type=int, default=5, help="how many words to either side are predicted")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--words", nargs="+", help="whose neighbours to show; by default some frequent words")
    parser.add_argument("--analogy", nargs=3, metavar=("A", "B", "C"), help="what is to C as B is to A?")
    parser.add_argument("--map", type=Path, metavar="FILE", help="draw frequent words (needs matplotlib)")
    parser.add_argument("--eager", action="store_true", help="run without compiling the step")
    args = parser.parse_args(argv)

    text = read_text(args.text) if args.text else python_reference()
    vocabulary = WordVocabulary(text, args.min_count)
    print(f"{len(vocabulary.encode(text)):,} words, {len(vocabulary):,} different ones known")
    asked = args.words or vocabulary.words[40:120:8] or vocabulary.words[1:]
    for word in [*asked, *(args.analogy or ())]:
        vocabulary.id(word)  # a mistyped word is told before the training, not after

    model = WordEmbedding(vocabulary, args.architecture, args.dimension, seed=0)
    losses = []
    for step in train(model, text, steps=args.steps, window=args.window, seed=0, compiled=not args.eager):
        losses.append(step.loss)
        if step.number % 100 == 0 or step.number == args.steps:
            print(f"step {step.number}: {np.mean(losses[-100:]):.3f} nats per pair")

    print()
    for word in asked:
        print(f"{word:>14}  " + "  ".join(f"{w} {cosine:.2f}" for w, cosine in model.nearest(word, 6)))
    if args.analogy:
        a, b, c = args.analogy
        answers = "  ".join(f"{w} {cosine:.2f}" for w, cosine in model.analogy(a, b, c, 5))
        print(f"\n{a} : {b} = {c} : ?  {answers}")
    if args.map:
        draw_map(model, args.map)


def draw_map(model: WordEmbedding, path: Path, words: slice = slice(50, 200)) -> None:
    """Draw frequent words in the plane in which their vectors differ most (their principal components).

    The most frequent words of all are left out: they stand beside everything, and say little.
    """
    from matplotlib.figure import Figure

    names = model.vocabulary.words[words] or model.vocabulary.words[1:]
    vectors = np.array([model.vector(name) for name in names])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors -= vectors.mean(axis=0)
    U, S, _ = np.linalg.svd(vectors, full_matrices=False)
    xs, ys = (U * S)[:, :2].T
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(xs, ys, s=4, color="0.7")
    for name, x, y in zip(names, xs, ys, strict=True):
        axes.annotate(name, (x, y), fontsize=8, xytext=(2, 2), textcoords="offset points")
    shares = S[:2] ** 2 / (S**2).sum()
    axes.set(xlabel=f"first component, {shares[0]:.0%} of the variance", ylabel=f"second, {shares[1]:.0%}")
    figure.savefig(path, dpi=100)
    print(f"\nthe map is in {path}")


if __name__ == "__main__":
    main()
