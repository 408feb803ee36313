"""`./sluss` where something is missing: one line that says what, and what to do; nothing of Python's or bash's own."""

import ipaddress
import os
import subprocess
from pathlib import Path

import pytest
from tests.hosts import demo, image, nspawn

REPOSITORY = Path(__file__).parents[2]
DEBIAN = 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian 13"\n'


@pytest.fixture
def sluss(tmp_path):
    """Runs a copy of the script on a machine as it is told: which programs there are and what they say."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "os-release").write_text(DEBIAN)
    names = ("/etc/os-release", "/usr/sbin/policy-rc.d", "/usr/bin/python3")
    text = (REPOSITORY / "sluss").read_text()
    for name in names:
        assert name in text
        text = text.replace(name, str(tmp_path / Path(name).name))
    (tmp_path / "sluss").write_text(text)
    (tmp_path / "sluss").chmod(0o755)
    for lock in ("auth-bridge/requirements.lock", "tests/requirements.lock"):
        (tmp_path / lock).parent.mkdir()
        (tmp_path / lock).touch()

    def run(*arguments: str, programs: dict[str, str], **environment: str) -> str:
        for name, script in ({"id": "echo 0"} | programs).items():
            program = tmp_path / ("python3" if name == "python3" else f"bin/{name}")
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            [tmp_path / "sluss", *arguments],
            env={"PATH": path, "SLUSS_CACHE": str(tmp_path / "cache")} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert done.returncode == 1, done
        assert done.stderr.startswith("sluss: "), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    return run


ROOM = {"df": "echo Avail; echo 9999"}
INSTALLED = ROOM | {"dpkg-query": "printf 'ii '"}


def test_no_home(sluss):
    assert "HOME is not set; set it, or SLUSS_CACHE" in sluss("test", programs={"id": "echo 1000"}, SLUSS_CACHE="")


@pytest.mark.parametrize("release", ["", 'ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian 11"\n', "ID=ubuntu\n"])
def test_another_system_or_one_that_does_not_say_what_it_is(sluss, tmp_path, release):
    (tmp_path / "os-release").write_text(release)
    assert "runs on Debian 12 and 13, not on " in sluss("demo", programs={})
    (tmp_path / "os-release").unlink()
    assert "not on this system" in sluss("demo", programs={})


def test_no_space(sluss):
    said = sluss("demo", programs={"df": "echo Avail; echo 2100"})
    assert "needs 4 GB in " in said
    assert "has 2; make room or set SLUSS_CACHE" in said


def test_cache_that_cannot_be_made(sluss, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot write to " in sluss("demo", programs=ROOM, SLUSS_CACHE=str(tmp_path / "file/cache"))


def test_no_network_for_debian_packages(sluss, tmp_path):
    fails = "echo 'E: Temporary failure resolving deb.invalid' >&2; exit 100"
    said = sluss("demo", programs=ROOM | {"dpkg-query": "exit 1", "apt-get": fails})
    assert "is the package mirror reachable?" in said
    assert "Temporary failure resolving" in said
    assert not (tmp_path / "policy-rc.d").exists()


def test_packages_that_only_root_can_install_are_named(sluss):
    said = sluss("test", "--fast", programs=ROOM | {"id": "echo 1000", "dpkg-query": "exit 1"})
    assert "these Debian packages are missing: python3 " in said


def test_no_network_for_python_packages(sluss):
    pip = "printf '#!/bin/sh\\necho no network >&2; exit 1\\n' >$3/bin/pip; chmod 755 $3/bin/pip"
    said = sluss("demo", programs=INSTALLED | {"python3": f"[ $1 = -m ] || exit 0; mkdir -p $3/bin; {pip}"})
    assert "is the package index reachable?); it said: no network" in said


def test_python_without_environments(sluss):
    said = sluss("demo", programs=INSTALLED | {"python3": "[ $1 = -m ] || exit 0; echo no ensurepip; exit 1"})
    assert "python3 said: no ensurepip" in said


def test_demo_that_was_never_made_is_taken_down_without_any_of_its_programs(tmp_path, monkeypatch, capsys):
    for module in (demo, nspawn):
        monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(demo, "FOLDER", tmp_path / "cache/demo")
    monkeypatch.setattr(demo, "HOSTS", tmp_path / "hosts")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "cache").mkdir()
    demo.down()
    assert "The demo is gone" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("script", "why"), [("exec sleep 9", "not done after"), ("echo E: no route >&2; exit 1", "E: no route")]
)
def test_image_that_cannot_be_made_says_why(tmp_path, monkeypatch, script, why):
    program = tmp_path / "mmdebstrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(image, "BOOTSTRAP_SECONDS", 0.5)
    with pytest.raises(nspawn.Problem, match=why):
        image.Image("trixie")._bootstrap(tmp_path / "new", "", "")


def on_host_failed() -> None:
    host = nspawn.Host("demo", nspawn.CACHE / "x", nspawn.Network("x", ipaddress.IPv4Network("192.0.2.0/24")), "")
    host.ssh = lambda: ["sh", "-c"]
    host.run("echo one; echo two >&2; exit 3")


def on_full_disk() -> None:
    raise OSError(28, "No space left on device", "/x")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (on_host_failed, "demo: echo one; echo two >&2; exit 3: exit 3: two"),
        (lambda: nspawn.sh("sleep", "9", timeout=0.1), "sleep did not end within 0 seconds"),
        (lambda: nspawn.sh("sh", "-c", "echo a; echo b >&2; exit 1"), "sh failed: b"),
        (lambda: nspawn.sh("/nowhere/nft"), "No such file or directory: /nowhere/nft"),
        (on_full_disk, "No space left on device: /x"),
    ],
)
def test_what_goes_wrong_on_the_way_is_one_line(work, said):
    with pytest.raises(SystemExit) as ended, nspawn.one_line():
        work()
    assert ended.value.code == f"sluss: {said}"
