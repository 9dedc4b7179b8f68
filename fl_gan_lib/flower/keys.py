"""Certificates and keys for a federation on Flower: who the server is, and which nodes may take part."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

try:
    import trustme
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("Flower is not installed: pip install -e '.[flower]'") from missing

# The SuperLink's own processes reach it here, whatever the nodes do.
LOCAL_HOSTS = ("localhost", "127.0.0.1")


def make_keys(folder: str | Path, *, hosts: Sequence[str] = (), num_nodes: int = 2) -> Path:
    """Write what a federation with TLS and node authentication needs; nothing of it belongs in a repository.

    - `ca.crt`: to everybody, the authority that vouches for the server; its key is thrown away.
    - `server.crt`, `server.key`: to the SuperLink alone. Valid for 30 days.
    - `node_<k>` and `node_<k>.pub`: the private key to node k alone, the public one to the SuperLink.

    Args:
        folder: where to write them; made if need be, readable for nobody else.
        hosts: names and addresses under which other computers reach the SuperLink.
        num_nodes: of the federation, the attacker included.

    Raises:
        ValueError: there is no node, or a host is no name or address.
        FileExistsError: there are keys already.
    """
    folder = Path(folder)
    if num_nodes < 1:
        raise ValueError(f"num_nodes is {num_nodes}: it must be at least 1")
    if (folder / "ca.crt").exists():
        raise FileExistsError(f"there are keys in {folder} already: take another folder, or delete it")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = trustme.CA(organization_name="fl-gan-lab")
    try:
        server = authority.issue_cert(*hosts, *LOCAL_HOSTS, not_after=datetime.now(UTC) + timedelta(days=30))
    except ValueError as error:
        raise ValueError(f"hosts are {list(hosts)}: give names or addresses of computers ({error})") from error
    _write(folder / "server.crt", server.cert_chain_pems[0].bytes())
    _write(folder / "server.key", server.private_key_pem.bytes())
    for number in range(num_nodes):
        node = ec.generate_private_key(ec.SECP384R1())
        _write(folder / f"node_{number}", node.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        public = node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        _write(folder / f"node_{number}.pub", public)
    # The last one, for it says that all are there: a call that was interrupted can be repeated.
    _write(folder / "ca.crt", authority.cert_pem.bytes())
    return folder


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
