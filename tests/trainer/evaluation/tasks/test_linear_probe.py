"""The choice of the linear probe's layer; `test_tagging.py` compares the whole probe with a plain loop."""

from types import SimpleNamespace

import numpy as np
from transformers import PretrainedConfig

from trainer.evaluation.formats.labelled_words import Sentence
from trainer.evaluation.tasks import linear_probe
from trainer.evaluation.tasks.linear_probe import fit_probe


def made_up_sentences(first: int, count: int) -> list[Sentence]:
    """Sentences of one word each, a number; its label is whether it is odd."""
    labels = ("even", "odd")
    return [
        Sentence([str(number)], [labels[number % 2]], "made up", [number]) for number in range(first, first + count)
    ]


def made_up_features(_model, _language, sentences, layers, *_):
    """The first layer is noise, in more dimensions than there are words; the second tells the labels of 6 words in 7."""
    numbers = [int(word) for sentence in sentences for word in sentence.words]
    noise = [np.random.default_rng(number).normal(size=300) for number in numbers]
    hints = [[(number + (number % 7 == 0)) % 2, *np.zeros(299)] for number in numbers]
    features = {0: np.array(noise, np.float32), 1: np.array(hints, np.float32)}
    return {layer: features[layer] for layer in layers}


def test_the_layer_is_the_best_on_held_out_sentences_and_not_on_those_that_were_fitted(monkeypatch):
    """A regression on noise is right about all words that it was fitted to."""
    monkeypatch.setattr(linear_probe, "_features", made_up_features)
    model = SimpleNamespace(transformers_config=PretrainedConfig(num_hidden_layers=1))
    predict = fit_probe(model, "x", made_up_sentences(0, 105), max_length=24, batch_tokens=64)
    test = made_up_sentences(1000, 70)
    right = sum(given == sentence.labels for given, sentence in zip(predict("x", test), test, strict=True))
    assert right == 60
