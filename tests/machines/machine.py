"""A machine that is not ours: a container with an ordinary Debian, a checkout, and a user who types commands."""

import shlex
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, cast

from stack.config import ROOT

CHECKOUT = "/srv/checkout"
PATIENCE = 900.0  # a first start fetches and installs hundreds of MB
SOON = 180.0  # a refusal takes seconds; on a slow and busy machine apt may first install a Python


@dataclass(frozen=True, slots=True)
class Done:
    """What a command came to. The output has both streams, as a terminal shows them."""

    code: int
    output: str
    seconds: float

    @property
    def gist(self) -> str:
        """What is served, or the last words that are not make's own."""
        lines = [line for line in self.output.splitlines() if line.strip() and not line.startswith("make: ***")]
        serving = [line for line in lines if line.startswith("Serving ")]
        return (serving or lines or [""])[-1].strip()


@dataclass
class Machine:
    name: str
    checkout: str
    report: Callable[[str, Done], None] = field(repr=False)
    user: str = "root"

    def run(
        self,
        command: str,
        *,
        user: str = "root",
        patience: float = PATIENCE,
        reported: bool = True,
    ) -> Done:
        """A line typed into a shell, in the checkout."""
        begun = time.monotonic()
        done = subprocess.run(
            ["docker", "exec", "--user", user, "--workdir", self.checkout, self.name, "bash", "-c", command],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patience,
        )
        result = Done(done.returncode, done.stdout, time.monotonic() - begun)
        if reported:
            self.report(command, result)
        return result

    def up(self, settings: str = "", *, patience: float = PATIENCE) -> Done:
        """`make up`, typed by the user whose checkout this is."""
        return self.run(f"make up {settings}".strip(), user=self.user, patience=patience)

    def down(self) -> None:
        done = self.run("make down", user=self.user, reported=False)
        assert done.code == 0, done.output

    def write(self, path: str, content: bytes, mode: str = "644") -> None:
        quoted = shlex.quote(path)
        line = f"mkdir -p $(dirname {quoted}) && cat >{quoted} && chmod {mode} {quoted}"
        subprocess.run(["docker", "exec", "--interactive", self.name, "bash", "-c", line], check=True, input=content)

    def check_out(self) -> None:
        """The files of this checkout, with uncommitted changes, without what git ignores: owned by the user."""
        self._must(f"mkdir -p {self.checkout} && chown {self.user}: {self.checkout}")
        unpack = ["docker", "exec", "--interactive", "--user", self.user, self.name, "tar", "-x", "-C", self.checkout]
        with subprocess.Popen(unpack, stdin=subprocess.PIPE) as receiving:
            stream = cast("IO[bytes]", receiving.stdin)
            with tarfile.open(fileobj=stream, mode="w|") as archive:
                for path in _files():
                    archive.add(ROOT / path, path, recursive=False, filter=_anonymous)
            stream.close()
        assert receiving.returncode == 0

    def _must(self, command: str) -> None:
        subprocess.run(["docker", "exec", self.name, "bash", "-c", command], check=True, capture_output=True)


@contextmanager
def running(
    image: str,
    report: Callable[[str, Done], None],
    *,
    options: Sequence[str] = (),
    user: str = "root",
    checkout: str = CHECKOUT,
) -> Iterator[Machine]:
    """A container that does nothing by itself, gone at the end. `options` are those of `docker run`."""
    name = f"machine-{uuid.uuid4().hex[:8]}"
    start = ["docker", "run", "--detach", "--rm", "--init", "--name", name, "--label", "serving-test-machine"]
    subprocess.run([*start, *options, image, "sleep", "infinity"], check=True, capture_output=True, text=True)
    try:
        machine = Machine(name, checkout, report, user)
        machine.check_out()
        yield machine
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], check=False, capture_output=True)


def _files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return [path for path in listed.stdout.split("\0") if path and (ROOT / path).exists()]


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
