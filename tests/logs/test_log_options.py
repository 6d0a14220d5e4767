"""Log options: what AWS refuses, and what they mean."""

import pytest

from emulation.logs.options import InvalidLogOptions, parse, validate

GOOD = {"awslogs-group": "/ecs/web", "awslogs-region": "eu-central-1", "awslogs-stream-prefix": "ecs"}


def test_the_stream_is_prefix_container_task() -> None:
    """The stream's name is as documented; without a prefix it is the container's id."""
    assert parse(GOOD, region="eu-central-1").stream_name("web", "0f1e", "c0ffee") == "ecs/web/0f1e"
    bare = {key: value for key, value in GOOD.items() if key != "awslogs-stream-prefix"}
    assert parse(bare, region="eu-central-1", fargate=False).stream_name("web", "0f1e", "c0ffee") == "c0ffee"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"awslogs-group": None}, "Log driver awslogs requires options: awslogs-group"),
        (
            {"awslogs-group": None, "awslogs-region": None},
            "Log driver awslogs requires options: awslogs-region, awslogs-group",
        ),
        ({"awslogs-group": ""}, "Log driver awslogs option 'awslogs-group' should not be null or empty."),
        ({"awslogs-stream": "x"}, "Log driver awslogs disallows options: awslogs-stream"),
        (
            {"awslogs-create-group": "false"},
            "Log driver awslogs option 'awslogs-create-group' should only be set to 'true', else omit option.",
        ),
        ({"mode": "lazy"}, "Log driver awslogs option 'mode' should be one of: blocking, non-blocking"),
        (
            {"mode": "blocking", "max-buffer-size": "1m"},
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        ({"max-buffer-size": "much"}, "error parsing option max-buffer-size: invalid size: 'much'"),
        ({"awslogs-multiline-pattern": "("}, 'awslogs could not parse multiline pattern key "(": '),
        (
            {"awslogs-multiline-pattern": "^A", "awslogs-datetime-format": "%Y"},
            "you cannot configure log opt 'awslogs-datetime-format' and 'awslogs-multiline-pattern' at the same time",
        ),
        ({"awslogs-stream-prefix": "a:b"}, "Log driver awslogs option 'awslogs-stream-prefix' should not contain"),
    ],
)
def test_options_that_aws_refuses_are_refused_in_its_words(change: dict[str, str | None], message: str) -> None:
    """RegisterTaskDefinition answers ClientException with this message."""
    options = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(InvalidLogOptions) as raised:
        validate(options)
    assert str(raised.value).startswith(message)


def test_a_prefix_is_needed_on_fargate_only() -> None:
    """On EC2 the container's id can name the stream."""
    options = {"awslogs-group": "g", "awslogs-region": "eu-central-1"}
    validate(options, fargate=False)
    with pytest.raises(InvalidLogOptions, match="requires options: awslogs-stream-prefix"):
        validate(options)


@pytest.mark.parametrize(
    ("datetime_format", "line"),
    [
        (r"\[%b %d, %Y %H:%M:%S\]", "[May 01, 2017 19:00:01] A message was logged"),
        ("%Y-%m-%dT%H:%M:%S,%f", "2024-02-29T23:59:59,123456 leap"),
        ("%A %j %I:%M %p %z %Z", "Friday 001 07:30 PM +0100 CEST"),
    ],
)
def test_a_datetime_format_matches_the_lines_that_begin_an_event(datetime_format: str, line: str) -> None:
    """The strftime codes of Docker's documentation are understood; the rest is a regular expression."""
    multiline = parse({**GOOD, "awslogs-datetime-format": datetime_format}, region="eu-central-1").multiline
    assert multiline is not None
    assert multiline.search(line)
    assert not multiline.search("    at com.example.Main(Main.java:17)")


def test_words_of_gos_regular_expressions_are_understood() -> None:
    """POSIX classes work in multi-line patterns."""
    multiline = parse({**GOOD, "awslogs-multiline-pattern": "^[[:upper:]]+:"}, region="eu-central-1").multiline
    assert multiline is not None
    assert multiline.search("ERROR: x")
    assert not multiline.search("error: x")


@pytest.mark.parametrize(("text", "size"), [("25m", 25 << 20), ("4096", 4096), ("1KB", 1024), ("1g", 1 << 30)])
def test_buffer_sizes_have_dockers_units(text: str, size: int) -> None:
    """Units are binary."""
    assert parse({**GOOD, "max-buffer-size": text}, region="eu-central-1").buffer_bytes == size


def test_lines_are_delivered_without_blocking_unless_asked_for() -> None:
    """Amazon ECS's default since June 2025 is non-blocking with a buffer of 10 MB."""
    options = parse(GOOD, region="eu-central-1")
    assert (options.mode, options.buffer_bytes) == ("non-blocking", 10 << 20)
    assert parse(GOOD, region="eu-central-1", default_mode="blocking").mode == "blocking"
