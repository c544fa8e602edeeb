"""Word embeddings: batches against loops, the loss against NumPy, and what is learned from texts."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorgrad as tg
from tensorgrad.errors import CheckpointError, DtypeError, ShapeError, UserError
from tensorgrad.io import Checkpoint, save_checkpoint
from tensorgrad.models import embedding
from tensorgrad.models.corpus import python_reference
from tensorgrad.models.embedding import ARCHITECTURES, Batch, WordEmbedding, batches, train
from tensorgrad.models.words import UNKNOWN, WordVocabulary, words_of

SENTENCE = "the cat and the dog and the bird and a fish"
both = pytest.mark.parametrize("architecture", ARCHITECTURES)


# --- words -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("To be, or NOT to be?", ["to", "be", "or", "not", "to", "be"]),
        ("o'er 'tis king's' ''", ["o'er", "tis", "king's"]),
        ("o\u2019er", ["o'er"]),
        ("Élan vital -- naïve", ["élan", "vital", "naïve"]),
        ("x1y _z_ 22", ["x", "y", "z"]),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_in_lower_case(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.lists(st.sampled_from("abcdefg"), max_size=60), st.integers(1, 6))
def test_the_vocabulary_has_the_frequent_words_in_order(letters: list[str], least: int) -> None:
    counts = Counter(letters)
    known = [word for word in counts if counts[word] >= least]
    if len(known) < 2:
        with pytest.raises(UserError, match="smaller min_count"):
            WordVocabulary(" ".join(letters), least)
        return
    vocabulary = WordVocabulary(" ".join(letters), least)
    assert vocabulary.words[0] == UNKNOWN
    assert list(vocabulary.words[1:]) == sorted(known, key=lambda word: (-counts[word], word))
    back = [vocabulary.words[i] for i in vocabulary.encode(" ".join(letters))]
    assert back == [letter if letter in known else UNKNOWN for letter in letters]
    assert WordVocabulary.from_json(vocabulary.to_json()) == vocabulary


def test_one_word_is_looked_up_in_any_case() -> None:
    vocabulary = WordVocabulary(SENTENCE, 2)
    assert vocabulary.id("The") == vocabulary.id("the") == 2
    assert "and" in vocabulary
    assert "cat" not in vocabulary
    assert vocabulary.encode("").shape == (0,)


def test_an_unknown_word_is_told_its_neighbours_in_spelling() -> None:
    vocabulary = WordVocabulary("king kings ring dog", 1)
    with pytest.raises(UserError, match="'kng' is none of the 5 known ones; did you mean 'king' or 'kings'"):
        vocabulary.id("kng")
    with pytest.raises(UserError, match=r"'xyzzy' is none of the 5 known ones$"):
        vocabulary.id("xyzzy")


@pytest.mark.parametrize(
    "words", [None, "<unk>", ["the", "and", "a"], ["<unk>", "a", "a"], ["<unk>", "a", 3], ["<unk>", "a"]]
)
def test_a_damaged_vocabulary_is_refused(words: Any) -> None:
    with pytest.raises(CheckpointError, match="vocabulary is damaged"):
        WordVocabulary.from_json(words)


# --- batches ---------------------------------------------------------------------------------------------
def one_pass(ids: np.ndarray, architecture: str, batch: int, **options: Any) -> list[Batch]:
    """The batches of the first pass over a text of which no word is left out."""
    source = batches(ids, architecture, batch=batch, sample=1, **options)
    return list(itertools.islice(source, -(-len(ids) // batch)))


@given(n=st.integers(2, 30), B=st.integers(1, 40), W=st.integers(1, 6), seed=st.integers(0, 99))
@both
def test_a_pass_has_every_place_once_with_the_words_around_it(
    architecture: str, n: int, B: int, W: int, seed: int
) -> None:
    ids = np.arange(n)  # so that an id tells its place
    seen = []
    for batch in one_pass(ids, architecture, B, window=W, seed=seed):
        skip = architecture == "skip-gram"
        centres, ones = (batch.inputs, batch.input_mask) if skip else (batch.targets, batch.target_mask)
        contexts, mask = (batch.targets, batch.target_mask) if skip else (batch.inputs, batch.input_mask)
        assert ones.all()
        for (centre,), around, within in zip(centres, contexts, mask, strict=True):
            seen.append(centre)
            found = around[within].tolist()
            reach = max(abs(i - centre) for i in found)
            assert 1 <= reach <= W
            assert found == [
                i for i in range(centre - reach, centre + reach + 1) if i != centre and 0 <= i < n
            ]
    assert sorted(seen) == list(range(n))


def test_both_architectures_see_the_same_pairs() -> None:
    ids = np.arange(20)
    for a, b in zip(one_pass(ids, "skip-gram", 7, seed=3), one_pass(ids, "cbow", 7, seed=3), strict=True):
        for mine, theirs in zip(a, (b.targets, b.target_mask, b.inputs, b.input_mask, b.noise), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_reaches_are_drawn_evenly() -> None:
    (batch,) = one_pass(np.arange(4000), "skip-gram", 4000, window=4, seed=0)
    inner = (batch.inputs[:, 0] >= 4) & (batch.inputs[:, 0] < 3996)
    reach = batch.target_mask[inner].sum(axis=1) / 2
    shares = np.bincount(reach.astype(int), minlength=5)[1:] / len(reach)
    np.testing.assert_allclose(shares, 0.25, atol=0.03)


def test_passes_differ_and_follow_the_seed() -> None:
    ids = np.arange(50)
    source = batches(ids, batch=50, sample=1, seed=0)
    first, second = next(source), next(source)
    assert not np.array_equal(first.inputs, second.inputs)
    again = next(batches(ids, batch=50, sample=1, seed=0))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    np.testing.assert_array_equal(first.noise, again.noise)


def test_frequent_words_are_thinned_out_as_equation_5_says() -> None:
    counts = np.array([0, 64_000, 16_000, 4_000, 500])
    ids = np.repeat(np.arange(5), counts)
    kept = next(batches(ids, batch=10**6, window=1, sample=0.01, seed=0)).inputs[:, 0]
    frequencies = counts[1:] / counts.sum()
    expected = np.minimum(np.sqrt(0.01 / frequencies), 1)
    np.testing.assert_allclose(np.bincount(kept)[1:] / counts[1:], expected, atol=0.02)


def test_noise_is_drawn_by_counts_to_the_power_three_quarters() -> None:
    counts = np.array([0, 1, 16, 81, 256])  # to the power 3/4: 0, 1, 8, 27, 64
    noise = next(batches(np.repeat(np.arange(5), counts), noise=100_000, seed=0)).noise
    np.testing.assert_allclose(np.bincount(noise) / 1000, [0, 1, 8, 27, 64], atol=0.5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch": 0}, "batch must be an integer of at least 1, not 0"),
        ({"window": 0}, "window must be"),
        ({"noise": 2.5}, "noise must be"),
        ({"sample": 0}, "sample must be a number above 0 and at most 1, not 0"),
        ({"sample": float("nan")}, "not nan"),
        ({"sample": 1e-12}, "hardly a word is left"),
    ],
)
def test_bad_batches(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        next(batches(np.arange(10), seed=0, **options))


def test_a_text_of_one_word_has_no_batches() -> None:
    with pytest.raises(UserError, match="a text of 1 words"):
        next(batches(np.array([3])))


# --- the loss --------------------------------------------------------------------------------------------
def by_hand(E: np.ndarray, U: np.ndarray, batch: Batch, k: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Equation 4 and its gradients, pair by pair, with the mean over the batch's noise as expectation."""

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    total, dE, dU = 0.0, np.zeros_like(E), np.zeros_like(U)
    pairs = int(batch.target_mask.sum())
    for b in range(len(batch.inputs)):
        inputs = batch.inputs[b][batch.input_mask[b]]
        h, dh = E[inputs].mean(axis=0), np.zeros(E.shape[1])
        for target in batch.targets[b][batch.target_mask[b]]:
            total -= np.log(sigmoid(U[target] @ h))
            slope = sigmoid(U[target] @ h) - 1
            dU[target] += slope * h
            dh += slope * U[target]
            for w in batch.noise:
                share = k / len(batch.noise)
                total -= share * np.log(sigmoid(-U[w] @ h))
                slope = share * sigmoid(U[w] @ h)
                dU[w] += slope * h
                dh += slope * U[w]
        for i in inputs:
            dE[i] += dh / len(inputs)
    return total / pairs, dE / pairs, dU / pairs


def small(architecture: str, dtype: Any = np.float64) -> tuple[WordEmbedding, Batch]:
    model = WordEmbedding(WordVocabulary(SENTENCE, 1), architecture, 3, seed=0, dtype=dtype)
    rng = np.random.default_rng(1)
    model.vectors.data = rng.standard_normal(model.vectors.shape)
    model.output_vectors.data = rng.standard_normal(model.vectors.shape)
    ids = model.vocabulary.encode(SENTENCE)
    return model, next(batches(ids, architecture, batch=6, window=2, noise=7, sample=1, seed=2))


@both
def test_the_loss_and_its_gradients_are_those_written_by_hand(architecture: str) -> None:
    model, batch = small(architecture)
    loss = model.loss(batch, negatives=4)
    loss.backward()
    expected, dE, dU = by_hand(model.vectors.numpy(), model.output_vectors.numpy(), batch, 4)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(model.vectors.grad, dE, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.output_vectors.grad, dU, rtol=1e-9, atol=1e-12)


@both
def test_the_gradients_pass_the_check(architecture: str) -> None:
    model, batch = small(architecture)

    def loss(E: Any, U: Any) -> Any:
        return WordEmbedding.loss(SimpleNamespace(vectors=E, output_vectors=U), batch)

    tg.gradcheck(loss, [model.vectors.numpy(), model.output_vectors.numpy()])


@both
def test_what_is_masked_does_not_matter(architecture: str) -> None:
    model, batch = small(architecture)
    other = batch._replace(
        inputs=np.where(batch.input_mask, batch.inputs, 1),
        targets=np.where(batch.target_mask, batch.targets, 2),
    )
    assert not (batch.input_mask.all() and batch.target_mask.all())
    assert model.loss(other).item() == model.loss(batch).item()


@both
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_leaves_the_precision(architecture: str, dtype: str) -> None:
    model, batch = small(architecture, dtype)
    loss = model.loss(batch)
    loss.backward()
    assert {str(a.dtype) for a in (loss, *model.parameters())} == {dtype}
    assert {str(p.grad.dtype) for p in model.parameters()} == {dtype}


def test_ids_that_are_no_words_are_errors() -> None:
    model, batch = small("skip-gram")
    with pytest.raises(ShapeError):
        model.loss(batch._replace(targets=batch.targets + 100))


# --- what is learned -------------------------------------------------------------------------------------
LANDS = ["avaria", "borland", "cestia", "dornia", "elvony", "ferrow", "gondia", "hestia"]
TOWNS = ["amburg", "brill", "corvo", "delft", "esker", "fenn", "garl", "hove"]
OF_LANDS = ["king", "border", "army", "people"]
OF_TOWNS = ["mayor", "street", "market", "bridge"]


def atlas(sentences: int = 1500, seed: int = 0) -> str:
    """Sentences in which the first noun tells a land from a town, and the language which land it is.

    So the nouns of either list are exchangeable, and town i is to land i as town j is to land j.
    """
    rng = np.random.default_rng(seed)
    said = []
    for _ in range(sentences):
        names, nouns = [(LANDS, OF_LANDS), (TOWNS, OF_TOWNS)][rng.integers(2)]
        i = rng.integers(8)
        language = "abcdefgh"[i] + "aeio"[rng.integers(4)] + "sh"
        said.append(f"The {nouns[rng.integers(4)]} of {names[i]} speaks {language}.")
    return " ".join(said)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def geographer(request: pytest.FixtureRequest) -> WordEmbedding:
    text = atlas()
    model = WordEmbedding(WordVocabulary(text, min_count=1), request.param, 16, seed=0)
    losses = [
        step.loss for step in train(model, text, steps=300, batch=256, window=3, noise=64, sample=1, seed=0)
    ]
    assert losses[0] == pytest.approx(6 * np.log(2), rel=1e-5)
    assert np.mean(losses[-10:]) < 2.6
    return model


def test_exchangeable_words_are_nearest(geographer: WordEmbedding) -> None:
    for group in (OF_LANDS, OF_TOWNS):
        for word in group:
            assert {other for other, _ in geographer.nearest(word, 3)} == set(group) - {word}


def test_every_analogy_is_found(geographer: WordEmbedding) -> None:
    for (land, town), (land2, town2) in itertools.permutations(zip(LANDS, TOWNS, strict=True), 2):
        assert geographer.analogy(land, town, land2)[0][0] == town2


def test_queries_are_cosines(geographer: WordEmbedding) -> None:
    unit = {
        w: geographer.vector(w) / np.linalg.norm(geographer.vector(w)) for w in geographer.vocabulary.words
    }
    found = geographer.nearest("King", 100)
    assert [w for w, _ in found] == sorted(
        unit.keys() - {"king", UNKNOWN}, key=lambda w: -float(unit[w] @ unit["king"])
    )
    for word, cosine in found:
        assert cosine == pytest.approx(float(unit[word] @ unit["king"]), abs=1e-5)
        assert cosine == pytest.approx(geographer.similarity(word, "king"), abs=1e-6)
    direction = unit["brill"] - unit["borland"] + unit["hestia"]
    ((word, cosine),) = geographer.analogy("borland", "brill", "hestia")
    assert cosine == pytest.approx(float(unit[word] @ direction) / np.linalg.norm(direction), abs=1e-5)
    left_out = {"borland", "brill", "hestia", UNKNOWN}
    assert not left_out & {w for w, _ in geographer.analogy("borland", "brill", "hestia", 100)}


def test_the_same_seed_learns_the_same() -> None:
    def learned(seed: int) -> np.ndarray:
        model = WordEmbedding(WordVocabulary(SENTENCE, 1), seed=0)
        list(train(model, SENTENCE, steps=5, sample=1, seed=seed))
        return model.vectors.numpy()

    np.testing.assert_array_equal(learned(0), learned(0))
    assert not np.array_equal(learned(0), learned(1))


@both
def test_compiled_and_eager_training_agree(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(embedding, "compile", lambda fn: made.append(tg.compile(fn)) or made[-1])
    text = f"{SENTENCE} {SENTENCE}"
    vocabulary, options = WordVocabulary(text, 1), {"steps": 6, "batch": 9, "sample": 1, "seed": 0}

    def losses(how: bool) -> list[float]:
        model = WordEmbedding(vocabulary, architecture, 4, seed=0, dtype=np.float64)
        return [step.loss for step in train(model, text, compiled=how, **options)]

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-9)
    (gradients,) = made
    info = gradients.cache_info()
    assert info.programs == 1 < info.signatures  # passes end in shorter batches


def test_the_learning_rate_falls_to_zero() -> None:
    model = WordEmbedding(WordVocabulary(SENTENCE, 1), seed=0)
    moves, before = [], model.vectors.numpy()
    for _ in train(model, SENTENCE, steps=50, sample=1, seed=0):
        moves.append(np.abs(model.vectors.numpy() - before).max())
        before = model.vectors.numpy()
    assert moves[-1] < 0.1 * max(moves)


@both
def test_words_of_real_text_have_sensible_neighbours(architecture: str) -> None:
    text = python_reference()
    model = WordEmbedding(WordVocabulary(text), architecture, 32, seed=0)
    for _ in train(model, text, steps=300, batch=512, seed=0):
        pass
    for word, expected in {"left": "right", "true": "false", "int": "float"}.items():
        assert expected in [other for other, _ in model.nearest(word, 5)], word


# --- bad arguments ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"architecture": "glove"}, UserError, "must be one of skip-gram, cbow, not 'glove'"),
        ({"dimension": 0}, UserError, "dimension must be an integer of at least 1, not 0"),
        ({"dtype": int}, DtypeError, "floating"),
    ],
)
def test_bad_models(arguments: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        WordEmbedding(WordVocabulary(SENTENCE, 1), **arguments)


def test_bad_queries(geographer: WordEmbedding) -> None:
    for ask in (
        lambda: geographer.nearest("kng"),
        lambda: geographer.vector("kng"),
        lambda: geographer.similarity("army", "kng"),
        lambda: geographer.analogy("army", "mayor", "kng"),
    ):
        with pytest.raises(UserError, match="did you mean 'king'"):
            ask()
    with pytest.raises(UserError, match="n must be an integer of at least 1, not 0"):
        geographer.nearest("king", 0)


@pytest.mark.parametrize("options", [{"steps": 0}, {"negatives": 0}, {"window": 0}])
def test_bad_training(options: dict[str, int]) -> None:
    model = WordEmbedding(WordVocabulary(SENTENCE, 1), seed=0)
    with pytest.raises(UserError, match="at least 1, not 0"):
        next(train(model, SENTENCE, **options))


def test_training_that_diverges_stops() -> None:
    model = WordEmbedding(WordVocabulary(SENTENCE, 1), seed=0)
    model.vectors.data = np.full(model.vectors.shape, np.nan)
    with pytest.raises(UserError, match=r"the loss is nan at step 1; train again with lr under 0\.05"):
        next(train(model, SENTENCE, sample=1, seed=0))


# --- files -----------------------------------------------------------------------------------------------
@both
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_model_is_the_same_model(architecture: str, dtype: str, tmp_path: Path) -> None:
    model, batch = small(architecture, dtype)
    model.save(tmp_path / "words.safetensors")
    before = tg.manual_seed(0).bit_generator.state
    again = WordEmbedding.load(tmp_path / "words.safetensors")
    assert tg.manual_seed(0).bit_generator.state == before
    assert (again.architecture, again.vocabulary, str(again.vectors.dtype)) == (
        architecture,
        model.vocabulary,
        dtype,
    )
    assert again.loss(batch).item() == model.loss(batch).item()
    assert again.nearest("cat") == model.nearest("cat")


def damaged(change: str) -> Checkpoint:
    checkpoint = small("cbow")[0].to_checkpoint()
    tensors, meta = dict(checkpoint.tensors), dict(checkpoint.meta)
    config = meta["config"]
    if change == "another model":
        meta["model"] = "CharLM"
    elif change == "no model":
        meta = {}
    elif change == "unknown architecture":
        config["architecture"] = ["glove"]
    elif change == "no vocabulary":
        del config["vocabulary"]
    elif change == "shorter vocabulary":
        config["vocabulary"] = config["vocabulary"][:-1]
    elif change == "no vectors":
        del tensors["vectors"]
    elif change == "no output vectors":
        del tensors["output_vectors"]
    elif change == "extra":
        tensors["bias"] = np.zeros(3)
    elif change == "integers":
        tensors["vectors"] = tensors["vectors"].astype(int)
    elif change == "misshapen":
        tensors["output_vectors"] = tensors["output_vectors"][:, :2]
    return Checkpoint(tensors, meta)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("another model", "is of the model 'CharLM'; a WordEmbedding is needed here"),
        ("no model", "does not name its model"),
        ("unknown architecture", "glove"),
        ("no vocabulary", "the vocabulary is damaged"),
        ("shorter vocabulary", r"describes 7 words and 3 dimensions, but its vectors have shape \(8, 3\)"),
        ("no vectors", r"its vectors have shape \(0,\)"),
        ("no output vectors", r"output_vectors \(8, 3\) is missing"),
        ("extra", r"bias \(3,\) is unexpected"),
        ("integers", "vectors is int64 and should be float64"),
        ("misshapen", r"output_vectors is \(8, 2\) and should be \(8, 3\)"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(change: str, sentence: str, tmp_path: Path) -> None:
    parts = damaged(change)
    save_checkpoint(tmp_path / "m.safetensors", parts.tensors, parts.meta)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        WordEmbedding.load(tmp_path / "m.safetensors")
    assert "m.safetensors" in str(caught.value)


def test_it_shows_what_it_is() -> None:
    assert repr(small("cbow")[0]) == "WordEmbedding(cbow, 8 words, 3 dimensions)"
    assert repr(WordVocabulary(SENTENCE, 1)) == "<WordVocabulary of 8 words>"
