"""The classifier: that it learns, measures honestly, and does so the same way each time."""

import random

import pytest
from furui.errors import FuruiError
from furui.example import Example, Label
from furui.features import BIAS, features
from furui.training import Metrics, train

YES, NO = frozenset({Label.YES}), frozenset({Label.NO})
NETWORKING = [Example(f"router packet {n}", YES) for n in range(30)]
EXAMPLES = NETWORKING + [Example(f"list lambda {n}", NO) for n in range(30)]
CONFLICTS = [Example(example.text, YES | NO) for example in EXAMPLES]


def test_it_learns_what_is_easy() -> None:
    """Texts that one word tells apart are told apart, and the words carry the weight in the right direction."""
    result = train(EXAMPLES, seed=0)
    assert result.metrics.f == 1.0
    assert (result.train_count, result.test_count) == (48, 12)
    assert result.model.score("a packet for the router") > 0 > result.model.score("a lambda in a list")
    assert {name for name, _ in result.model.top_features(4)} == {"router", "packet", "list", "lambda"}


def test_the_order_of_examples_does_not_matter() -> None:
    """Stores may return examples in any order; model and numbers are the same."""
    shuffled = random.Random(1).sample(EXAMPLES, len(EXAMPLES))
    assert train(shuffled, 3).model.to_bytes() == train(EXAMPLES, 3).model.to_bytes()


def test_random_labels_cannot_be_learned() -> None:
    """Measured on examples that were learned from, noise would look like success; on the others it looks like noise."""
    coin = random.Random(0)
    noise = [Example(f"word{n} text", coin.choice([YES, NO])) for n in range(400)]
    assert 0.3 < train(noise, 0).metrics.accuracy < 0.7


def test_metrics_are_what_their_names_say() -> None:
    """A worked example, and no division by nothing."""
    metrics = Metrics(true_positives=6, false_positives=2, false_negatives=4, true_negatives=8)
    assert str(metrics) == "accuracy=0.7000 precision=0.7500 recall=0.6000 f=0.6667"
    assert str(Metrics(0, 0, 0, 0)) == "accuracy=0.0000 precision=0.0000 recall=0.0000 f=0.0000"


@pytest.mark.parametrize("examples", [[], NETWORKING, EXAMPLES[26:34], CONFLICTS])
def test_too_little_to_learn_from_is_said(examples: list[Example]) -> None:
    """None, one label only, too few, or conflicts only: an error that says what to do, not a model."""
    with pytest.raises(FuruiError, match="Import some, or annotate"):
        train(examples, 0)


def test_features_of_a_text_without_words() -> None:
    """Punctuation only: the bias remains, and nothing is divided by nothing."""
    assert set(features("… — !")) == {BIAS}
