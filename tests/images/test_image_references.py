"""References are read by Docker's rules, and those that mean an ECR repository are recognised."""

import pytest

from emulation.errors import ImageError
from emulation.images.reference import EcrName, ImageReference, ecr_registry

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nginx", ("", "nginx", "latest", "")),
        ("team/app:1.0", ("", "team/app", "1.0", "")),
        ("localhost/app", ("localhost", "app", "latest", "")),
        ("localhost:5000/team/app:1", ("localhost:5000", "team/app", "1", "")),
        ("[::1]:5000/app", ("[::1]:5000", "app", "latest", "")),
        ("quay.io/a__b/c-d.e", ("quay.io", "a__b/c-d.e", "latest", "")),
        (f"app@{DIGEST}", ("", "app", "", DIGEST)),
        (f"host.example:443/app:2@{DIGEST}", ("host.example:443", "app", "2", DIGEST)),
    ],
)
def test_a_reference_has_the_parts_that_docker_sees_in_it(text: str, parts: tuple[str, str, str, str]) -> None:
    """Registry, repository, tag (latest unless a digest is given) and digest are told apart."""
    assert ImageReference.parse(text) == ImageReference(*parts)


@pytest.mark.parametrize("text", ["quay.io/app:1", f"app:2@{DIGEST}", f"app@{DIGEST}"])
def test_a_reference_prints_as_it_was_written(text: str) -> None:
    """str() is the inverse of parse for complete references."""
    assert str(ImageReference.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", ":", "/", "app:", "app:-1", "a:b:c", "app@sha256:12", "app@md5:" + "0" * 64, "-app", "a//b", "../x", "a/../b",
     "App", "team/App", "app\n", "a..b", "localhost:port/app", "app:" + "x" * 129, "x" * 256, " app"],
)  # fmt: skip
def test_an_invalid_reference_is_refused(text: str) -> None:
    """What Docker would not take as a reference is no reference."""
    with pytest.raises(ImageError, match=r"invalid reference format|repository name must not be more than 255"):
        ImageReference.parse(text)


def test_capital_letters_are_refused_in_dockers_words() -> None:
    """The commonest mistake is named."""
    with pytest.raises(ImageError, match=r"repository name \(team/App\) must be lowercase"):
        ImageReference.parse("team/App")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1", ("123456789012", "eu-west-1", "team/app")),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/app", ("123456789012", "cn-north-1", "app")),
        ("123456789012.dkr-ecr.us-east-2.on.aws/app", ("123456789012", "us-east-2", "app")),
        ("127.0.0.1:4566/123456789012/us-east-1/team/app", ("123456789012", "us-east-1", "team/app")),
        ("localhost:4566/123456789012/us-gov-east-1/app", ("123456789012", "us-gov-east-1", "app")),
    ],
)
def test_ecr_repositories_are_recognised(text: str, name: tuple[str, str, str]) -> None:
    """AWS's host names and the emulator's own repositoryUri mean the same repositories."""
    assert ecr_registry(ImageReference.parse(text)) == EcrName(*name)


@pytest.mark.parametrize(
    "text",
    ["nginx", "12345.dkr.ecr.eu-west-1.amazonaws.com/app",
     "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example/app",
     "10.0.0.1:4566/123456789012/us-east-1/app", "123456789012/us-east-1/app", "localhost:4566/123456789012/app"],
)  # fmt: skip
def test_other_references_are_no_ecr_repositories(text: str) -> None:
    """A name that merely resembles one is left to other sources."""
    assert ecr_registry(ImageReference.parse(text)) is None
