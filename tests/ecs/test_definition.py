"""What a container is to run, from the JSON of its definition and the overrides of RunTask."""

from typing import Any

import pytest

from emulation.ecs.definition import parse_container

APP: dict[str, Any] = {"name": "app", "image": "app"}


@pytest.mark.parametrize(
    ("given", "meant"), [(None, None), ([], None), ([""], ()), (["/init"], ("/init",)), (["", "x"], ("", "x"))]
)
def test_an_entry_point_of_one_empty_word_drops_the_images(given: Any, meant: Any) -> None:
    """As `docker run --entrypoint ""` does; an empty list says nothing."""
    assert parse_container({**APP, "entryPoint": given}).entry_point == meant


def test_the_environment_of_an_override_is_added_to_the_definitions() -> None:
    """The override's value wins; null is the empty string; a name ends at its first "="."""
    definition = {**APP, "environment": [{"name": "A", "value": "1"}, {"name": "B"}, {"name": "C=D", "value": "e=f"}]}
    override = {"name": "app", "environment": [{"name": "A", "value": "2"}, {"name": "N", "value": None}]}
    assert parse_container(definition, override).environment == {"A": "2", "B": "", "C": "D=e=f", "N": ""}


def test_a_tmpfs_has_its_size_and_options() -> None:
    """As Docker writes them, which is what the runtimes read."""
    mounts = [{"containerPath": "/a", "size": 10, "mountOptions": ["ro", "mode=700"]}, {"containerPath": "/b"}]
    parsed = parse_container({**APP, "linuxParameters": {"tmpfs": mounts}})
    assert parsed.tmpfs == ("/a:size=10m,ro,mode=700", "/b:")
