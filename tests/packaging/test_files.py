"""What must not be in any file of the project."""
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
# Folders in which somebody's files live; the project runs anywhere.
MACHINE_PATH = re.compile(r"(?<![\w.~$}/])/(?:root|home|work|Users)/[\w.]+")
SKIPPED = {".git", "build", "dist", "out", "__pycache__"}


def project_files():
    """Those that git knows or would add; without git, all but what is generated."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, capture_output=True, text=True, check=False)
    if listing.returncode == 0 and listing.stdout:
        files = [PROJECT / name for name in listing.stdout.splitlines()]
    else:
        files = [file for file in PROJECT.rglob("*")
                 if not SKIPPED & set(file.relative_to(PROJECT).parts)
                 and not file.relative_to(PROJECT).parts[0].startswith(".venv")]
    return [file for file in files if file.is_file()]


def test_no_file_names_a_path_of_somebodys_machine():
    found = []
    for file in project_files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{file.relative_to(PROJECT)}: {match.group()}"
                  for match in MACHINE_PATH.finditer(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text", ["/{}/me/x", "see /{}/x", '"/{}/main"', "=/{}/me"])
@pytest.mark.parametrize("folder", ["home", "root", "work", "Users"])
def test_the_check_finds_such_a_path(text, folder):
    assert MACHINE_PATH.search(text.format(folder))


def test_cpythons_own_tests_are_not_among_the_files():
    names = {file.name for file in project_files()}
    assert not {"test_concurrent_futures.py", "script_helper.py"} & names
