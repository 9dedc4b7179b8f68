"""Certificates and keys for a federation on Flower: who the server is, and which nodes may take part."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fl_gan_lib.arguments import whole_number

try:
    import trustme
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("Flower is not installed: pip install -e '.[flower]'") from missing

# The SuperLink's own processes reach it here, whatever the nodes do.
LOCAL_HOSTS = ("localhost", "127.0.0.1")

# As copied from an address bar or from --superlink. The scheme, the port and the last slash or dot are no part of the
# name, and a path would make 10.0.0.0/8 a host.
_HOST = re.compile(
    r"(?:[a-z]+://)?(?:\[([\da-f:.]+)\]|((?:\*\.)?[\w-]+(?:\.[\w-]+)*)\.?)(?::\d{1,5})?/?", re.IGNORECASE
)


def make_keys(folder: str | Path, *, hosts: Sequence[str] = (), num_nodes: int = 2) -> Path:
    """Write what a federation with TLS and node authentication needs; nothing of it belongs in a repository.

    - `ca.crt`: to everybody, the authority that vouches for the server; its key is thrown away.
    - `server.crt`, `server.key`: to the SuperLink alone. Valid for 30 days.
    - `node_<k>` and `node_<k>.pub`: the private key to node k alone, the public one to the SuperLink.

    Args:
        folder: where to write them; made if need be, readable for nobody else.
        hosts: names and addresses under which other computers reach the SuperLink. A scheme or a port is left out, as
            no certificate has one.
        num_nodes: of the federation, the attacker included.

    Raises:
        ValueError: there is no node, or a host is no name or address; nothing has been written yet.
        FileExistsError: there are keys already.
    """
    folder = Path(folder).expanduser()
    num_nodes = whole_number("num_nodes", num_nodes, 1)
    if isinstance(hosts, str):
        raise ValueError(
            f"hosts is the text {hosts!r:.80}: it must be a list of names and addresses, as in [{hosts!r:.80}]"
        )
    names = [host_name(host) for host in hosts]
    if (folder / "ca.crt").exists():
        raise FileExistsError(f"there are keys in {folder} already: take another folder, or delete it")
    authority = trustme.CA(organization_name="fl-gan-lab")
    try:
        server = authority.issue_cert(*names, *LOCAL_HOSTS, not_after=datetime.now(UTC) + timedelta(days=30))
    except ValueError as error:  # a name that the rules for international ones do not allow
        raise ValueError(f"hosts are {names}: give names or addresses of computers ({error})") from error
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
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


def host_name(host: Any) -> str:
    """The name or address in `host`, as a certificate has it: "lab-server" of "https://lab-server:9092/".

    Raises:
        ValueError: it is no name or address that another computer could ask for.
    """
    address = _address(host)  # first, for without brackets the colons of IPv6 are no port's
    if address is None and isinstance(host, str) and (parts := _HOST.fullmatch(host)):
        bracketed, name = parts.groups()
        # What ends in a number is no name: an address, or a mistyped one.
        if name and not name.rpartition(".")[2].isdecimal():
            return name
        address = _address(bracketed or name)
    if address is None or address.is_unspecified or "%" in str(address):
        raise ValueError(
            f"hosts holds {host!r:.80}: each must be the name or the address under which other computers reach the "
            "server, such as 'lab-server' or '192.168.1.5'"
        )
    return str(address)


def _address(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
