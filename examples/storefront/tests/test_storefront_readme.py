"""The README: each claim has a test of that name, each test is a claim, and each command prints what it says."""

import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
README = (HERE.parent / "README.md").read_text()


def names_of_tests() -> set[str]:
    files = [file for file in HERE.glob("test_*.py") if file.name != Path(__file__).name]
    return {
        name for file in files for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }


def test_every_claim_is_a_test_and_every_test_a_claim() -> None:
    claims = re.findall(
        r"^- (.+?)(?: \(in `.+`\))?$", README.partition("## What it claims")[2].partition("\n## ")[0], re.MULTILINE
    )
    names = ["_".join(["test", *re.findall(r"\w+", claim.lower().replace("'", ""))]) for claim in claims]
    assert sorted(names) == sorted(names_of_tests())


def test_every_command_prints_what_it_says(server: str) -> None:
    session = "".join(re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
    typed = re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE)
    script = "\nprintf '\\0'\n".join(command for command, _ in typed).replace("http://127.0.0.1:8000", server)
    with TemporaryDirectory() as directory:
        done = subprocess.run(
            ["bash", "-c", script],  # noqa: S607 - any bash
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=directory,
        )
    printed = [steady(text) for text in done.stdout.split("\0")]
    assert len(typed) > 10
    assert printed == [steady(text) for _, text in typed]


def steady(printed: str) -> str:
    """Without what differs from run to run: seconds."""
    return re.sub(r"(?i)\b(ttl=|age: )\d+", r"\1N", printed.replace("\r", "")).strip()
