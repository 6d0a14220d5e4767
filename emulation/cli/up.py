"""`sunabox up`: what may be asked of it, and where it leads (`foreground` or `background`)."""

from pathlib import Path

import click

from emulation.cli import options


@click.command(name="up")
@click.option("--port", type=click.IntRange(0, 65535), default=4566, show_default=True, help="0 picks a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--runtime",
    type=click.Choice(["auto", "process", "docker", "memory"]),
    default="auto",
    show_default=True,
    help="How containers run: by Docker, as processes of this machine, or as scripts in memory.",
)
@click.option("--speed", type=options.speed, metavar="N", help="Let AWS durations pass N times as fast. [default: 1]")
@click.option("--virtual-clock", is_flag=True, help="Let time stand still until `sunabox clock advance`.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where blobs and files are kept. [default: a temporary folder]",
)
@click.option("--detach", is_flag=True, help="Start in the background and return when it serves.")
@click.option("--ready-fd", type=int, hidden=True)
def command(
    port: int,
    host: str,
    runtime: str,
    speed: float | None,
    virtual_clock: bool,
    data_dir: Path | None,
    detach: bool,
    ready_fd: int | None,
) -> None:
    """Start Sunabox. It serves once it has printed "Ready."; Ctrl-C stops it and everything in it."""
    if speed is not None and virtual_clock:
        raise click.UsageError("--speed and --virtual-clock exclude each other: a virtual clock stands still.")
    _warn_if_exposed(host)
    if detach:
        from emulation.cli.background import start_in_background

        arguments = [f"--port={port}", f"--host={host}", f"--runtime={runtime}"]
        arguments += [f"--speed={speed}"] if speed is not None else []
        arguments += ["--virtual-clock"] if virtual_clock else []
        arguments += [f"--data-dir={data_dir.absolute()}"] if data_dir is not None else []
        start_in_background(host, port, arguments)
    else:
        from emulation.cli.foreground import serve_until_stopped

        serve_until_stopped(
            host=host,
            port=port,
            runtime=runtime,
            speed=1.0 if speed is None else speed,
            virtual_clock=virtual_clock,
            data_dir=data_dir,
            ready_fd=ready_fd,
        )


def _warn_if_exposed(host: str) -> None:
    if host not in ("localhost", "::1") and not host.startswith("127."):
        click.echo(
            f"sunabox: warning: {host} is not a loopback address. Whoever reaches it can use this Sunabox without a "
            "password, and run programs on this machine.",
            err=True,
        )
