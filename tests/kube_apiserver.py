"""A real kube-apiserver with its etcd, for tests; there is no controller and no node.

The server is built once from Debian's source package into a cache folder (some 10 minutes), with
Debian's Go compiler unpacked beside it: nothing is installed on the machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.servers import missing

CACHE = Path(os.environ.get("MLOPS_KUBE_CACHE", Path.home() / ".cache" / "mlops-kube-apiserver"))
_PACKAGES = ("golang-1.19-go", "golang-1.19-src", "etcd-server")
_REFLECT2 = "golang-github-modern-go-reflect2-dev"
"""What Kubernetes vendors of it does not work with Go 1.18 and later."""
_OPENAPI_GEN = "vendor/k8s.io/kube-openapi/cmd/openapi-gen"
_TOKEN = "test-token"
READY_SECONDS = 60


@dataclass(frozen=True)
class ApiServer:
    """Where a server listens, and the token of its administrator."""

    url: str
    token: str
    kubeconfig: Path


@contextmanager
def kube_apiserver() -> Iterator[ApiServer]:
    """Run kube-apiserver and etcd on free ports of 127.0.0.1 with an empty store."""
    from airflow_mlops_provider.stack.service import free_ports

    binary, etcd = _binaries()
    client, peer, port = free_ports(3)
    with tempfile.TemporaryDirectory(prefix="mlops-kube-") as name:
        folder = Path(name)
        processes = [_start(folder / "etcd.log", _etcd_command(etcd, folder, client, peer))]
        try:
            command = _apiserver_command(binary, folder, client, port)
            processes.append(_start(folder / "apiserver.log", command))
            url = f"https://127.0.0.1:{port}"
            _wait(url, processes[-1], folder / "apiserver.log")
            yield ApiServer(url, _TOKEN, _kubeconfig(folder, url))
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(30)


def _etcd_command(etcd: Path, folder: Path, client: int, peer: int) -> list[str]:
    urls = {
        "listen-client-urls": f"http://127.0.0.1:{client}",
        "advertise-client-urls": f"http://127.0.0.1:{client}",
        "listen-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-cluster": f"default=http://127.0.0.1:{peer}",
        "data-dir": str(folder / "etcd"),
    }
    return [str(etcd), *(f"--{key}={value}" for key, value in urls.items())]


def _apiserver_command(binary: Path, folder: Path, etcd: int, port: int) -> list[str]:
    key = folder / "account.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(
        f"{_TOKEN},admin,1,system:masters\nnobody-token,nobody,2,nobody\n"
    )
    options = {
        "etcd-servers": f"http://127.0.0.1:{etcd}",
        "bind-address": "127.0.0.1",
        "advertise-address": "127.0.0.1",
        "secure-port": port,
        "cert-dir": folder / "certificates",
        "service-cluster-ip-range": "10.0.0.0/24",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": key,
        "service-account-signing-key-file": key,
        "token-auth-file": folder / "tokens.csv",
        "authorization-mode": "RBAC",
        "disable-admission-plugins": "ServiceAccount",
        "endpoint-reconciler-type": "none",
    }
    return [str(binary), *(f"--{name}={value}" for name, value in options.items())]


def _start(log: Path, command: list[str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    headers = {"authorization": f"Bearer {_TOKEN}"}
    with httpx.Client(verify=False, headers=headers) as client:  # noqa: S501 - its own, just made
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if client.get(f"{url}/readyz").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
    raise RuntimeError(f"kube-apiserver did not get ready:\n{log.read_text()[-3000:]}")


def _kubeconfig(folder: Path, url: str) -> Path:
    path = folder / "kubeconfig"
    tokens = {"admin": _TOKEN, "nobody": "nobody-token", "wrong": "wrong"}
    cluster = {"server": url, "insecure-skip-tls-verify": True}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "admin",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": name, "user": {"token": each}} for name, each in tokens.items()],
        "contexts": [
            {"name": name, "context": {"cluster": "test", "user": name}} for name in tokens
        ],
    }
    path.write_text(json.dumps(config))
    return path


def _binaries() -> tuple[Path, Path]:
    """Return kube-apiserver and etcd, built if they are not there yet."""
    binary, etcd = CACHE / "kube-apiserver", CACHE / "root" / "usr" / "bin" / "etcd"
    if not binary.exists():
        if not Path("/etc/debian_version").exists() or not shutil.which("apt-get"):
            missing("kube-apiserver", "its build needs Debian 12 and its source packages")
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not binary.exists():
                _build(binary)
    return binary, etcd


def _build(binary: Path) -> None:
    work = CACHE / "build"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    apt = _apt(work)
    _run(work, *apt, "update")
    _run(work, *apt, "download", *_PACKAGES, _REFLECT2)
    for package in sorted(work.glob("*.deb")):
        _run(work, "dpkg", "-x", package, CACHE / "root")
    _run(work, *apt, "source", "--download-only", "kubernetes")
    (description,) = work.glob("kubernetes_*.dsc")
    source = work / "gopath" / "src" / "k8s.io" / "kubernetes"
    source.parent.mkdir(parents=True)
    _run(work, "dpkg-source", "--no-check", "-x", description, source)
    reflect2 = source / "vendor" / "github.com" / "modern-go" / "reflect2"
    shutil.rmtree(reflect2)
    shared = CACHE / "root" / "usr" / "share" / "gocode" / "src"
    shutil.copytree(shared / "github.com" / "modern-go" / "reflect2", reflect2)
    root = CACHE / "root" / "usr" / "lib" / "go-1.19"
    environment = {
        **os.environ,
        "GOROOT": str(root),
        "PATH": f"{root}/bin:{os.environ['PATH']}",
        "GOPATH": str(work / "gopath"),
        "GOCACHE": str(work / "gocache"),
        "GO111MODULE": "off",
        "GOFLAGS": f"-p={os.environ.get('MLOPS_KUBE_JOBS', '1')}",
        "CGO_ENABLED": "0",
    }
    go = ("nice", "-n", "19", environment["GOROOT"] + "/bin/go", "build", "-o")
    _run(source, *go, work / "openapi-gen", f"./{_OPENAPI_GEN}", env=environment)
    _generate_openapi(work / "openapi-gen", source, environment)
    _run(source, *go, work / "kube-apiserver", "./cmd/kube-apiserver", env=environment)
    (work / "kube-apiserver").rename(binary)
    shutil.rmtree(work, ignore_errors=True)


def _generate_openapi(generator: Path, source: Path, environment: dict[str, str]) -> None:
    """Write the one generated file that the source package leaves to its build."""
    folders = {
        file.parent.relative_to(source)
        for top in ("pkg", "staging/src/k8s.io")
        for file in (source / top).rglob("*.go")
        if not file.name.startswith("zz_generated") and "+k8s:openapi-gen=" in file.read_text()
    }
    staged = "staging/src/"
    packages = [
        f"k8s.io/kubernetes/{str(each).replace(staged, 'vendor/')}"
        for each in sorted(folders)
        if not re.search("code-generator|sample-apiserver", str(each))
    ]
    command = (
        *("nice", "-n", "19", generator, "--logtostderr", "-i", ",".join(packages)),
        *("-p", "k8s.io/kubernetes/pkg/generated/openapi", "-O", "zz_generated.openapi"),
        *("-h", "hack/boilerplate/boilerplate.generatego.txt"),
        *("-r", generator.with_name("violations"), "-o", source.parents[1]),
    )
    _run(source, *command, env=environment)


def _apt(work: Path) -> list[str]:
    """Return an apt-get that also knows the source packages, and keeps that to itself."""
    sources = work / "apt"
    for folder in (sources / "parts", work / "lists" / "partial"):
        folder.mkdir(parents=True)
    given = Path("/etc/apt")
    for found in (given / "sources.list", *sorted((given / "sources.list.d").glob("debian.*"))):
        if found.is_file():
            text = re.sub(r"(?m)^Types: deb$", "Types: deb deb-src", found.read_text())
            text = re.sub(r"(?m)^deb (.*)$", r"deb \1\ndeb-src \1", text)
            (sources / "parts" / found.name.replace("sources.list", "main.list")).write_text(text)
    return [
        "apt-get",
        "-q",
        *("-o", "Dir::Etc::SourceList=/dev/null"),
        *("-o", f"Dir::Etc::SourceParts={sources / 'parts'}"),
        *("-o", f"Dir::State::Lists={work / 'lists'}"),
        *("-o", "APT::Sandbox::User=root"),
    ]


def _run(folder: Path, *command: object, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [str(each) for each in command], cwd=folder, env=env, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-3000:] or done.stdout[-3000:]}")
