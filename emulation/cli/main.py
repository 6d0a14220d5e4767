"""The command `sunabox`: its commands, loaded only when they are used, and how errors reach people.

click and not typer, because the start of `sunabox up` is waited for: typer needs pydantic to read a single option,
which takes 0.2 s.
"""

import os
import sys
from importlib import import_module

import click

from emulation import __version__
from emulation.errors import SunaboxError

_COMMANDS = {
    "up": "emulation.cli.up",
    "down": "emulation.cli.down",
    "status": "emulation.cli.status",
    "clock": "emulation.cli.clock",
    "image": "emulation.cli.image",
    "logs": "emulation.cli.logs",
    "why": "emulation.cli.why",
}


class _Commands(click.Group):
    """A group whose commands are modules; each has a click command named `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(_COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sunabox", message="%(prog)s %(version)s")
def sunabox() -> None:
    """An AWS account on your own machine in which ECS, Fargate, load balancers and Batch really run."""


def main() -> None:
    """Runs the command. Exits with 1 where it failed, 2 where it was called wrongly, 130 where Ctrl-C ended it."""
    try:
        code = sunabox.main(prog_name="sunabox", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except SunaboxError as error:
        _explain(str(error))
        code = 1
    except Exception as error:
        _explain(f"{type(error).__name__}: {error}. (SUNABOX_DEBUG=1 shows where that happened.)")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _explain(message: str) -> None:
    if os.environ.get("SUNABOX_DEBUG"):
        import traceback

        traceback.print_exc()
    click.echo(f"sunabox: {message}", err=True)


if __name__ == "__main__":
    main()
