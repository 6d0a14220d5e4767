"""Furui, the story's program, as people run it: a process of its own, arguments in, lines out."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FIXTURES = Path(__file__).parent.parent / "fixtures"
DATA = FIXTURES / "data" / "foldoc.tsv"
_LONGEST_SECONDS = 60


@dataclass(frozen=True)
class Ran:
    """What a command printed, and how it ended."""

    exit_code: int
    output: str
    errors: str

    def lines(self, step: str) -> list[dict[str, str]]:
        """The values of each line of that step: `import new=3 …` → {"new": "3", …}."""
        found = [line for line in self.output.splitlines() if line.split(" ", 1)[0] == step]
        return [{key: value.strip('"') for key, value in re.findall(r'([\w-]+)=("[^"]*"|\S+)', line)} for line in found]

    def line(self, step: str) -> dict[str, str]:
        """The values of the only line of that step."""
        (only,) = self.lines(step)
        return only


@dataclass(frozen=True)
class Server:
    """A web application that runs."""

    process: subprocess.Popen[str]
    host: str
    port: int

    def terminate(self) -> None:
        """SIGTERM: what `docker stop`, and ECS when it stops a task, send first."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> Ran:
        output, errors = self.process.communicate(timeout=_LONGEST_SECONDS)
        return Ran(self.process.returncode, output, errors)


@dataclass(frozen=True)
class Program:
    """Furui with a folder of its own, and the environment variables that choose its store."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str | Path, answers: str = "", broken_by: str = "") -> Ran:
        """Runs a command. `broken_by` is Python that is executed first: how the scenarios make a machine fail."""
        with self.start(*arguments, broken_by=broken_by) as process:
            output, errors = process.communicate(answers, timeout=_LONGEST_SECONDS)
            return Ran(process.returncode, output, errors)

    def must(self, *arguments: str | Path, answers: str = "") -> Ran:
        """Runs a command that has to succeed."""
        ran = self.run(*arguments, answers=answers)
        assert ran.exit_code == 0, ran.errors
        return ran

    @contextmanager
    def start(self, *arguments: str | Path, broken_by: str = "") -> Iterator[subprocess.Popen[str]]:
        """Starts a command and goes on; kills it at the end, if it still runs."""
        code = f"{broken_by}\nimport sys\nfrom furui.cli import main\nsys.exit(main())"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(filter(None, [str(FIXTURES / "app"), os.environ.get("PYTHONPATH")])),
                "FURUI_DIR": str(self.folder),
                **self.environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    @contextmanager
    def serve(self, host: str = "127.0.0.1", port: int = 0) -> Iterator[Server]:
        """Starts the web application, and goes on as soon as it says that it serves."""
        with self.start("serve", "--host", host, "--port", str(port)) as process:
            assert process.stdout and process.stderr
            line = process.stdout.readline()
            assert line.startswith("serve "), line + process.stderr.read()
            address = re.search(r"http://([\d.]+):(\d+)", line)
            assert address, line
            yield Server(process, address[1], int(address[2]))
