"""aider, a coding agent, without a terminal: it is asked for a change in a repository, streamed and whole."""

import json
import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

MODEL = "openai/smollm2-135m"
# What its documentation wants for a model that it does not know. Without a limit the embedded model repeats itself to
# the end of its context.
SETTINGS = [{"name": MODEL, "edit_format": "whole", "use_repo_map": True, "extra_params": {"max_tokens": 48}}]
METADATA = {
    MODEL: {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 8192, "max_output_tokens": 2048}
}
FILES = {
    "adding.py": "def add(a: int, b: int) -> int:\n    return a - b\n",
    "main.py": "from adding import add\n\n\ndef main() -> None:\n    print(add(1, 2))\n",
}


def ask(home: Path, repository: Path, *options: str) -> dict[str, object]:
    """One run of its command, and the word by which its requests are known."""
    word = uuid.uuid4().hex
    command = [sys.executable, "-m", "aider", "--model", MODEL, "--message", f"Correct {word}: add must add."]
    command += ["--model-settings-file", home / "settings.yml", "--model-metadata-file", home / "metadata.json"]
    command += ["--yes-always", "--no-pretty", "--analytics-disable", "--no-check-update", "--no-show-release-notes"]
    done = subprocess.run(
        [*command, *options, "adding.py"],
        check=False,
        cwd=repository,
        env=os.environ | {"HOME": str(home), "OPENAI_API_BASE": os.environ["OPENAI_BASE_URL"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return {"word": word, "code": done.returncode, "said": done.stdout}


with tempfile.TemporaryDirectory() as name:
    home, repository = Path(name, "home"), Path(name, "repository")
    for folder in (home, repository):
        folder.mkdir()
    (home / "settings.yml").write_text(json.dumps(SETTINGS), encoding="utf-8")
    (home / "metadata.json").write_text(json.dumps(METADATA), encoding="utf-8")
    for file, text in FILES.items():
        (repository / file).write_text(text, encoding="utf-8")
    for arguments in (["init", "--quiet"], ["add", *FILES]):
        subprocess.run(["git", *arguments], check=True, cwd=repository)
    json.dump([ask(home, repository, "--stream"), ask(home, repository, "--no-stream")], sys.stdout)
