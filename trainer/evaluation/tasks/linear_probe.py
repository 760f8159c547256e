"""A linear classifier over the hidden states of a frozen model.

A word's features are the mean over its tokens, in one layer (0: the embeddings). Fine-tuning moves the information about a
word to its first token, but a frozen model does not, and a tokenizer that splits words finely should not be judged by their
beginnings.
"""

import warnings
from collections.abc import Callable, Iterable

import numpy as np
import torch
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from trainer.evaluation.formats.labelled_words import Sentence
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.forward import forward_by_length
from trainer.evaluation.tasks.word_inputs import encode_sentences

# More words do not change the order of models, and take minutes.
_MOST_WORDS = 20_000
# The layer is chosen with this many words to fit, and as many to score.
_CHOICE_WORDS = 4_000
# Every fifth training sentence is held out to choose the layer.
_HELD_OUT = 5
_ITERATIONS = 200


class NothingToFit(Exception):
    """No word with a label has a token."""


def fit_probe(
    model: Model, language: str, sentences: list[Sentence], max_length: int, batch_tokens: int
) -> Callable[[str, list[Sentence]], list[list[str | None]]]:
    """Fits a logistic regression to the words of labelled sentences; returns a function that labels sentences of a language.

    The layer is the one with the best accuracy on every fifth sentence after fitting on the others (the lowest layer in case
    of a tie); then the words of all sentences are fitted. Features are standardised. Nothing is random.

    Raises:
      NothingToFit: no word of the sentences has a label and a token.
    """

    def features(language: str, sentences: list[Sentence], layers: Iterable[int]) -> dict[int, np.ndarray]:
        return _features(model, language, sentences, layers, max_length, batch_tokens)

    held_out = _first_words(sentences[::_HELD_OUT], _CHOICE_WORDS)
    rest = [sentence for number, sentence in enumerate(sentences) if number % _HELD_OUT]
    fitted_on = _first_words(rest, _CHOICE_WORDS)
    layers = range(model.transformers_config.get_text_config().num_hidden_layers + 1)
    fit_features, test_features = (features(language, chosen, layers) for chosen in (fitted_on, held_out))
    if not _is_usable(fit_features[0], fitted_on).any():
        fitted_on, fit_features = held_out, test_features
    layer = max(
        layers, key=lambda layer: _accuracy(_fit(fit_features[layer], fitted_on), test_features[layer], held_out)
    )
    train = _first_words(sentences, _MOST_WORDS)
    probe = _fit(features(language, train, [layer])[layer], train)

    def predict(language: str, sentences: list[Sentence]) -> list[list[str | None]]:
        features_WH = features(language, sentences, [layer])[layer]
        seen_W = ~np.isnan(features_WH[:, 0])
        labels_W = np.full(len(features_WH), None, object)
        if seen_W.any():
            labels_W[seen_W] = probe.predict(features_WH[seen_W])
        ends = np.cumsum([len(sentence.words) for sentence in sentences])
        return [part.tolist() for part in np.split(labels_W, ends[:-1])]

    return predict


def _features(
    model: Model,
    language: str,
    sentences: list[Sentence],
    layers: Iterable[int],
    max_length: int,
    batch_tokens: int,
) -> dict[int, np.ndarray]:
    """Returns float32 [W, H] for each layer, for the words of all sentences, concatenated; NaN for words without tokens."""
    pieces = encode_sentences(model, language, sentences, max_length)
    starts = np.cumsum([0, *(len(sentence.words) for sentence in sentences)])
    hidden_size = model.transformers_config.get_text_config().hidden_size
    result = {layer: np.full((starts[-1], hidden_size), np.nan, np.float32) for layer in layers}
    inputs = [piece.inputs for piece in pieces]
    for rows, output in forward_by_length(
        model.encoder, model.tokenizer(language), inputs, batch_tokens, output_hidden_states=True
    ):
        words, positions, numbers = [], [], []
        for number, row in enumerate(rows):
            for word, tokens in pieces[row].tokens.items():
                words += [int(starts[pieces[row].sentence]) + word] * len(tokens)
                positions += tokens
                numbers += [number] * len(tokens)
        unique_W, of_T = np.unique(np.array(words, np.int64), return_inverse=True)
        for layer, features_WH in result.items():
            hidden_TH = output.hidden_states[layer][numbers, positions].float().cpu()
            sums_WH = torch.zeros(len(unique_W), hidden_size).index_add_(0, torch.from_numpy(of_T), hidden_TH)
            features_WH[unique_W] = sums_WH.numpy() / np.bincount(of_T)[:, None]
    return result


def _first_words(sentences: list[Sentence], most: int) -> list[Sentence]:
    """Returns the first sentences, until they have at least `most` words."""
    words, chosen = 0, []
    for sentence in sentences:
        if words >= most:
            break
        chosen.append(sentence)
        words += len(sentence.words)
    return chosen


def _labels(sentences: list[Sentence]) -> np.ndarray:
    return np.array([label for sentence in sentences for label in sentence.labels], object)


def _is_usable(features_WH: np.ndarray, sentences: list[Sentence]) -> np.ndarray:
    """Returns bool [W]: whether each word has a label and a token."""
    return (_labels(sentences) != None) & ~np.isnan(features_WH[:, 0])  # noqa: E711, by element


def _fit(features_WH: np.ndarray, sentences: list[Sentence]) -> Pipeline:
    usable_W = _is_usable(features_WH, sentences)
    if not usable_W.any():
        raise NothingToFit
    known_W = _labels(sentences)[usable_W].astype(str)
    # The first words of a file may all have one label.
    classifier = LogisticRegression(max_iter=_ITERATIONS) if len(set(known_W)) > 1 else DummyClassifier()
    probe = make_pipeline(StandardScaler(), classifier)
    with warnings.catch_warnings():
        # The iteration limit is a deliberate stop, the same for all models.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return probe.fit(features_WH[usable_W], known_W)


def _accuracy(probe: Pipeline, features_WH: np.ndarray, sentences: list[Sentence]) -> float:
    usable_W = _is_usable(features_WH, sentences)
    right = probe.predict(features_WH[usable_W]) == _labels(sentences)[usable_W] if usable_W.any() else 0.0
    return float(np.mean(right))
