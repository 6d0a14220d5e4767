"""What every store of the sample program promises. Runs against files, and PostgreSQL with Valkey."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from furui.errors import UnknownExample
from furui.example import Example, Label, example_id
from furui.model import Model
from furui.store import Added, Settings, Store, open_store

YES, NO = frozenset({Label.YES}), frozenset({Label.NO})


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = open_store(settings)
    yield opened
    opened.close()


def test_what_was_added_is_there_for_the_next_process(store: Store, settings: Settings) -> None:
    """A second store of the same settings sees the examples, in the order of their ids, whatever their text."""
    examples = [
        Example("plain", YES),
        Example("quotes \" ' and \\ and \u2028 and tabs\t, ends", NO),
        Example("網路 🖧 naïve", frozenset()),
        Example("%s {} $1 \\N \\.", YES),
    ]
    assert store.examples.add(examples) == Added(new=4)
    other = open_store(settings)
    assert list(other.examples.all()) == sorted(examples, key=lambda example: example.id)
    other.close()


def test_adding_joins_labels(store: Store) -> None:
    """Nothing changes by adding the same again, or without a label; another label makes a conflict, in either order."""
    store.examples.add([Example("a"), Example("b", YES), Example("c", NO)])
    assert store.examples.add([Example("a"), Example("b"), Example("c", NO)]) == Added(unchanged=3)
    changes = [Example("a", YES), Example("b", NO), Example("c", YES), Example("d", YES | NO)]
    assert store.examples.add(changes) == Added(new=1, changed=3)
    assert store.examples.add(changes) == Added(unchanged=4)
    labels = {example.text: example.labels for example in store.examples.all()}
    assert labels == {"a": YES, "b": YES | NO, "c": YES | NO, "d": YES | NO}


def test_adding_nothing_changes_nothing(store: Store) -> None:
    """An empty import is no error."""
    assert store.examples.add([]) == Added()
    assert list(store.examples.all()) == []


def test_annotating_settles_a_conflict(store: Store) -> None:
    """A person's decision replaces all labels; an example that does not exist is named."""
    store.examples.add([Example("a", YES | NO)])
    assert store.examples.annotate(example_id("a"), Label.NO) == Example("a", NO)
    assert list(store.examples.all()) == [Example("a", NO)]
    with pytest.raises(UnknownExample, match="0123456789abcdef"):
        store.examples.annotate("0123456789abcdef", Label.YES)


def test_writers_at_once_lose_nothing(settings: Settings) -> None:
    """Eight writers with overlapping texts in opposite orders neither overwrite nor block each other for good."""

    def write(number: int) -> None:
        store = open_store(settings)
        texts = [f"shared {n}" for n in range(50)] + [f"own {number} {n}" for n in range(20)]
        store.examples.add(Example(text, YES) for text in (texts if number % 2 else reversed(texts)))
        store.examples.annotate(example_id(f"own {number} 3"), Label.NO)
        store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    store = open_store(settings)
    labels = [example.label for example in store.examples.all()]
    store.close()
    assert (len(labels), labels.count(Label.NO)) == (50 + 8 * 20, 8)


def test_the_last_model_is_loaded_also_by_a_store_that_knew_an_older_one(store: Store, settings: Settings) -> None:
    """None before the first training; later the current one, to the last digit, however long the store is open."""
    reader = open_store(settings)
    assert reader.models.load() is None
    for weight in (0.1 + 0.2, -1e-300):
        store.models.save(Model({"word": weight}))
        for _ in range(2):
            loaded = reader.models.load()
            assert loaded is not None
            assert loaded.weights == {"word": weight}
    reader.close()


def test_scores_are_kept_by_version(store: Store) -> None:
    """A score comes back as exactly the same number, for its model only; what is not known is left out."""
    store.scores.put("abc1", {"x": 0.1 + 0.2, "y": -1e-300})
    store.scores.put("abc1", {"z": 3.0})
    assert store.scores.get("abc1", ["x", "y", "z", "unknown"]) == {"x": 0.1 + 0.2, "y": -1e-300, "z": 3.0}
    assert store.scores.get("abc2", ["x"]) == {}
    assert store.scores.get("abc1", []) == {}


def test_a_lost_database_connection_is_made_again(database_settings: Settings, servers: Any) -> None:
    """After the server has been restarted (a failover, a reboot) the next call works."""
    store = open_store(database_settings)
    store.examples.add([Example("a", YES)])
    servers[0].execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'furui'")
    assert len(store.examples.all()) == 1
    store.close()
