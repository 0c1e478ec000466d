"""Everything a person does with this project, as `python make.py COMMAND`, the same on Linux, macOS and Windows.

Only the standard library. The syntax is kept old on purpose, so that any Python can at least say that it is too old.
"""

import hashlib
import os
import shutil
import subprocess
import sys

HELP = """usage: python make.py COMMAND [arguments]

  setup           make .venv and install Cutaway and its test tools there
  demo            open a real chat model on this machine and talk with it (cutaway tour)
  test            ruff, pyright, then pytest; with arguments: pytest alone, with them
  proof           the long tests; with arguments: those go to pytest
  bench           list the benchmarks; bench NAME [arguments] runs one
  lint            ruff and pyright
  format          let ruff put the code in order

Every command first does what is missing of setup. Where .venv is up to date that takes no time.
CUTAWAY_HOME says where models are kept, pip's own configuration where packages come from."""

OLDEST = (3, 11)
MOST_WORKERS = 4  # processes that test at once: each takes up to 2 GB
ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "cutaway-setup.txt")
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
PYTHON = os.path.join(BIN, "python.exe" if os.name == "nt" else "python")


class Stop(Exception):
    """Ends the command with one clear line."""


def run(*command, **variables):
    """Run a command from the project's root and return its exit code. Its output goes where ours goes.

    `variables` stand in its environment where the caller's has none of that name.
    """
    environment = dict(variables, **os.environ)
    environment["PATH"] = BIN + os.pathsep + environment.get("PATH", "")
    environment["PYRIGHT_PYTHON_IGNORE_WARNINGS"] = "1"  # no question to a registry about newer versions
    environment.pop("PYTHONHOME", None)
    sys.stdout.flush()
    return subprocess.call(command, cwd=ROOT, env=environment)


def say(text):
    print("make.py: " + text)
    sys.stdout.flush()


# ---- setup


def fingerprint():
    """What .venv depends on: the two files that name packages, this Python, and where the project lies."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read().replace(b"\r\n", b"\n"))
    digest.update("\n".join(["", sys.version, ROOT]).encode("utf-8"))
    return digest.hexdigest()


def installed():
    """The extra that stands in .venv ("base" or "test"), or None if it must be made or renewed."""
    if not os.path.exists(PYTHON) or not os.path.exists(STAMP):
        return None
    with open(STAMP, encoding="utf-8") as file:
        words = file.read().split()
    return words[1] if len(words) == 2 and words[0] == fingerprint() else None


def setup(extra):
    """Bring .venv up to date with at least `extra`: "base", or "test", which contains it."""
    before = installed()
    if before in (extra, "test"):
        return
    if before is None:
        make_venv()
    say("installing packages into .venv (minutes the first time, most of it torch)")
    if os.path.exists(STAMP):
        os.remove(STAMP)  # an interrupted install must not look like a finished one
    command = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-c", "constraints.txt"]
    if not sys.stdout.isatty():
        command.append("--quiet")
    if run(*(command + ["-e", "." if extra == "base" else ".[test]"])) != 0:
        raise Stop("pip could not install the packages: its own message is above")
    with open(STAMP, "w", encoding="utf-8") as file:
        file.write(fingerprint() + " " + extra + "\n")


def make_venv():
    """Make .venv with this Python, unless one that works with the same Python is there already."""
    if os.path.exists(PYTHON):
        ask = "import sys, pip; sys.exit(sys.version != sys.argv[1])"
        with open(os.devnull, "w") as nowhere:
            if subprocess.call([PYTHON, "-c", ask, sys.version], stdout=nowhere, stderr=nowhere) == 0:
                return
    if os.path.realpath(sys.prefix) == os.path.realpath(VENV):
        raise Stop(".venv must be made anew, which its own Python cannot do: run this with the Python it was made from")
    say("making .venv with Python " + sys.version.split()[0])
    if os.path.exists(VENV):
        shutil.rmtree(VENV)
    if run(sys.executable, "-m", "venv", VENV) != 0:
        raise Stop("this Python cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)")


# ---- commands


def lint(arguments):
    failed = [name for name, command in LINT if run(*command) != 0]
    if failed:
        say("failed: " + ", ".join(failed))
    return 1 if failed else 0


def order(arguments):
    checked = run(PYTHON, "-m", "ruff", "check", "--fix", ".")
    return run(PYTHON, "-m", "ruff", "format", ".") or checked


def test(arguments):
    if arguments:
        return run(PYTHON, "-m", "pytest", *arguments)
    linted = lint([])
    # A file's tests stay together, as they share what they load. A thread to each process: more would be in their way.
    workers = min(os.cpu_count() or 1, MOST_WORKERS)
    shared = ("-n", str(workers), "--dist", "loadfile")
    tested = run(PYTHON, "-m", "pytest", *shared, "--durations=10", "--durations-min=5", OMP_NUM_THREADS="1")
    if linted:
        say("the tests ran, but ruff or pyright failed: see further up")
    return tested or linted


def proof(arguments):
    code = run(PYTHON, "-m", "pytest", "-m", "proof", "--durations=10", "--durations-min=30", *arguments)
    if code == 5:  # pytest: nothing was collected. A proof of nothing is no success.
        raise Stop("no test is marked `proof`" + (" among those asked for" if arguments else ""))
    return code


def bench(arguments):
    folder = os.path.join(ROOT, "bench")
    names = sorted(name[:-3] for name in os.listdir(folder) if name.endswith(".py")) if os.path.isdir(folder) else []
    if not arguments:
        print("\n".join("  " + name for name in names) or "no benchmarks yet")
        return 0
    name = arguments[0]
    if name not in names:
        raise Stop("no benchmark is called " + name + "; there are: " + (", ".join(names) or "none yet"))
    return run(PYTHON, os.path.join(folder, name + ".py"), *arguments[1:])


def demo(arguments):
    return run(os.path.join(BIN, "cutaway"), "tour", *arguments)


LINT = (
    ("ruff check", (PYTHON, "-m", "ruff", "check", ".")),
    ("ruff format", (PYTHON, "-m", "ruff", "format", "--check", ".")),
    ("pyright", (PYTHON, "-m", "pyright")),
)
COMMANDS = {
    "setup": ("test", lambda arguments: say(".venv is ready") or 0),
    "demo": ("base", demo),
    "test": ("test", test),
    "proof": ("test", proof),
    "bench": ("test", bench),
    "lint": ("test", lint),
    "format": ("test", order),
}


def main(arguments):
    if sys.version_info < OLDEST:
        found = ".".join(str(part) for part in sys.version_info[:3])
        raise Stop("this needs Python 3.11 or newer, and was started with " + found)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0 if arguments else 2
    name = arguments[0]
    if name not in COMMANDS:
        print(HELP)
        raise Stop("there is no command " + name, 2)
    extra, command = COMMANDS[name]
    setup(extra)
    return command(arguments[1:])


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except Stop as stop:
        sys.stdout.flush()
        sys.stderr.write("make.py: " + stop.args[0] + "\n")
        code = stop.args[1] if len(stop.args) > 1 else 1
    except KeyboardInterrupt:
        sys.stderr.write("\nmake.py: stopped\n")
        code = 130
    sys.exit(code)
