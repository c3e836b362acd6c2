"""An OpenSSH server on loopback."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Serve until the block ends; yields URL and options of a DVC remote. Skips where there is no sshd to start."""
    program = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
    if program is None or os.geteuid() != 0:
        pytest.skip("needs sshd (package openssh-server) and root to start it")
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = folder / "sshd_config"
    configuration.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"StrictModes no\nPermitRootLogin yes\nPidFile none\nSubsystem sftp internal-sftp\n"
    )
    server = subprocess.Popen([program, "-D", "-e", "-f", configuration], stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{folder}/store"
        yield url, {"keyfile": str(folder / "user")}
    finally:
        server.terminate()
        server.wait()


def _wait(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise TimeoutError(f"sshd does not listen on port {port}")
