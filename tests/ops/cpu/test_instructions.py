"""Which set runs on which CPU, what the variable means, and that the CPU is asked before anything of a set is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cutaway.base.errors import BadInput
from cutaway.ops.cpu.build import find_kernels
from cutaway.ops.cpu.commands import Failed
from cutaway.ops.cpu.instructions import FOLDER, PROBE, SETS, choose, opened, sources, wanted


@pytest.mark.parametrize(("asked", "name"), [("", None), (" ON ", "on"), ("off", "off"), ("AVX2", "avx2")])
def test_what_the_variable_asks_for(asked, name):
    assert wanted(asked) == name


def test_an_unknown_name_is_told_with_those_there_are():
    with pytest.raises(BadInput, match=r'CUTAWAY_KERNELS: no kernels "avx513"; did you mean "avx512"\?$'):
        wanted("avx513")
    with pytest.raises(BadInput, match=r'no kernels "fast" \(known: off, on, [^:]*\)$'):
        wanted("fast")


@pytest.mark.parametrize(
    ("bits", "name", "chosen"),
    [
        (7, None, "avx512"),
        (5, None, "avx512"),  # Zen 4
        (3, None, "avx2-vnni"),  # Alder Lake
        (1, None, "avx2"),
        (0, None, None),
        (5, "avx2", "avx2"),
        (1, "avx512", None),  # never an illegal instruction, even where one asks for it
        (5, "avx2-vnni", None),
    ],
)
def test_the_best_set_that_the_cpu_has(bits, name, chosen):
    assert choose(bits, name) == chosen


def test_each_set_has_flags_of_its_own():
    assert len({one.flags for one in SETS.values()}) == len({one.bit for one in SETS.values()}) == len(SETS)


def test_the_probe_is_no_part_of_the_library_and_knows_the_same_bits():
    assert FOLDER / PROBE not in sources() and len(sources()) > 10
    text = (FOLDER / PROBE).read_text(encoding="utf-8")
    told = ", ".join(f"{name.upper().replace('-', '_')} = {SETS[name].bit}" for name in ("avx2", "avx2-vnni", "avx512"))
    assert f"enum Set {{ {told} }};" in text


def test_what_does_not_load_is_one_line(tmp_path):
    (tmp_path / "a.so").write_bytes(b"no library")
    with pytest.raises(Failed, match="what was compiled does not load") as caught:
        opened(tmp_path / "a.so")
    assert "\n" not in str(caught.value)


HASWELL = ("test_norm",)  # torch and pytest themselves take most of a minute there


def emulated(cpu: str, *command: str, root: Path) -> subprocess.CompletedProcess[str]:
    """A Python program on another CPU: qemu executes its instructions one by one and refuses those which that lacks."""
    qemu = next((one for name in ("qemu-x86_64", "qemu-x86_64-static") if (one := shutil.which(name))), None)
    if qemu is None:
        pytest.skip("qemu-user is not here (on Debian: apt install qemu-user)")
    return subprocess.run(
        [qemu, "-cpu", cpu, sys.executable, *command], capture_output=True, encoding="utf-8", errors="replace", cwd=root
    )


@pytest.mark.proof
@pytest.mark.parametrize(
    ("cpu", "asked", "told"),
    [
        ("Nehalem", "on", "impossible None this CPU lacks AVX2"),
        ("Nehalem", "avx2", "impossible None this CPU lacks avx2"),
        ("SandyBridge", "on", "impossible None this CPU lacks AVX2"),  # AVX, but not AVX2
        ("Haswell", "on", "built avx2 None"),
        ("Haswell", "avx512", "impossible None this CPU lacks avx512"),
        ("Haswell", "avx2-vnni", "impossible None this CPU lacks avx2-vnni"),
    ],
)
def test_a_cpu_gets_what_it_has(root, cpu, asked, told):
    if find_kernels("avx2").library is None:  # and it is compiled: an emulated process is slow
        pytest.skip("no kernels for AVX2 here")
    code = f"from cutaway.ops.cpu.first_use import build; one = build({asked!r}); print(one.state, one.set, one.why)"
    done = emulated(cpu, "-c", code, root=root)
    assert done.stdout.strip() == told, done.stderr


@pytest.mark.proof
def test_kernels_for_avx2_run_where_nothing_newer_is(root):
    """On a CPU with AVX2 alone: an instruction of AVX-512 or AVX-VNNI would end the process."""
    if find_kernels("avx2").library is None:
        pytest.skip("no kernels for AVX2 here")
    tests = [f"tests/ops/cpu/{name}.py" for name in HASWELL]
    done = emulated("Haswell", "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests, root=root)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert " passed" in done.stdout
