"""`sunabox image`: images on this machine, made and moved without Docker."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from emulation.images.library import Library


@click.group(name="image")
def command() -> None:
    """Build, load, push and list images, without Docker."""


def _pair(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    if bad := [value for value in values if not value.partition("=")[1]]:
        raise click.BadParameter(f"{bad[0]!r} is not NAME=VALUE.")
    return {value.partition("=")[0]: value.partition("=")[2] for value in values}


def _words(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    import shlex

    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}.") from error


@command.command()
@click.argument("app", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--tag", "-t", "names", multiple=True, required=True, metavar="NAME[:TAG]", help="Its name; repeatable.")
@click.option("--requirement", "-r", "requirements", multiple=True, help="A package to install; repeatable.")
@click.option("--extra", "extras", multiple=True, help="An extra of the app to install; repeatable.")
@click.option("--entry-point", callback=_words, default="", help="What it runs, as in a shell.")
@click.option("--command", callback=_words, default="", help="The arguments of the entry point.")
@click.option("--env", "-e", "environment", multiple=True, callback=_pair, metavar="NAME=VALUE", help="Repeatable.")
@click.option("--port", "ports", type=click.IntRange(1, 65535), multiple=True, help="A port it serves; repeatable.")
@click.option("--user", default="", help="The user that it runs as.")
def build(
    app: Path,
    names: tuple[str, ...],
    requirements: tuple[str, ...],
    extras: tuple[str, ...],
    entry_point: tuple[str, ...],
    command: tuple[str, ...],
    environment: dict[str, str],
    ports: tuple[int, ...],
    user: str,
) -> None:
    """Make an image of the Python application in the folder APP, on the Python that runs this command."""
    from emulation.images.build import build_python_app
    from emulation.images.library import Library

    image = build_python_app(
        app,
        library=Library(),
        names=names,
        requirements=requirements,
        extras=extras,
        entry_point=entry_point,
        command=command,
        environment=environment,
        ports=ports,
        user=user,
    )
    click.echo(image.digest)


@command.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--tag", "-t", "names", multiple=True, metavar="NAME[:TAG]", help="A name instead of those in FILE.")
def load(file: Path, names: tuple[str, ...]) -> None:
    """Take in the images of FILE: a `docker save` archive, or an OCI layout."""
    from emulation.images.archive import load as load_archive
    from emulation.images.library import Library

    for image in load_archive(file, Library(), names):
        click.echo(f"{image.name}  {image.digest}")


@command.command()
@click.argument("name")
@click.argument("target", required=False)
def push(name: str, target: str | None) -> None:
    """Push the image NAME to a registry, as TARGET or under its own name.

    TARGET is what CreateRepository gave as repositoryUri, with or without a tag.
    """
    from emulation.images.library import Library
    from emulation.images.push import push as push_image

    click.echo(push_image(Library(), name, target or name))


@command.command(name="ls")
def list_images() -> None:
    """List the images on this machine."""
    from emulation.images.library import Library

    rows = [(image.name, image.digest[:19], f"{image.size_bytes / 1e6:.1f} MB") for image in Library().list()]
    rows.insert(0, ("NAME", "DIGEST", "SIZE"))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, digest, size in rows:
        click.echo(f"{name:<{widths[0]}}  {digest:<{widths[1]}}  {size}")


@command.command()
@click.argument("what", type=click.Choice(["python", "postgres", "redis", "emulator"]))
@click.option("--tag", "-t", "names", multiple=True, metavar="NAME[:TAG]", help="Its name; repeatable.")
@click.option("--docker", is_flag=True, help="Also load it into the Docker daemon.")
def base(what: str, names: tuple[str, ...], docker: bool) -> None:
    """Make an image of what is on this machine: nothing is downloaded.

    python: the Python that runs this command. postgres, redis: servers that take the variables and commands of the
    official images. emulator: Sunabox itself, for docker-compose.yml. Without --tag it is sunabox/WHAT:VERSION.
    """
    from emulation.images.base import build_base
    from emulation.images.library import Library

    library = Library()
    image = build_base(what, library, names)
    known = names or (image.reference,)
    if docker:
        _load_into_docker(library, known)
    for name in known:
        click.echo(f"{library.find(name).name}  {image.digest}")


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The tar to write.")
def save(names: tuple[str, ...], output: Path) -> None:
    """Write images into a tar: an OCI layout that `docker load` takes, too."""
    from emulation.images.archive import save as save_archive
    from emulation.images.library import Library

    save_archive(Library(), names, output)


def _load_into_docker(library: "Library", names: Sequence[str]) -> None:
    """By the docker command, which finds the daemon as its user has set it up."""
    import shutil
    import subprocess
    import tempfile

    from emulation.errors import ImageError
    from emulation.images.archive import save as save_archive

    docker = shutil.which("docker")
    if docker is None:
        raise ImageError("there is no docker command: install it, or move the image with `sunabox image save`")
    with tempfile.TemporaryDirectory(prefix="sunabox-image-") as folder:
        archive = Path(folder, "image.tar")
        save_archive(library, names, archive)
        done = subprocess.run([docker, "load", "--input", str(archive)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"docker load failed: {done.stderr.strip()}")
