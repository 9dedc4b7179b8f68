"""Certificates and keys for a federation on Flower: who the server is, and which nodes may take part."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
    from cryptography.x509.oid import NameOID
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("Flower is not installed: pip install -e '.[flower]'") from missing

# The SuperLink's own processes reach it here, whatever the nodes do.
LOCAL_HOSTS = ("localhost", "127.0.0.1")


def make_keys(folder: str | Path, *, hosts: Sequence[str] = (), num_nodes: int = 2) -> Path:
    """Write what a federation with TLS and node authentication needs; nothing of it belongs into a repository.

    - `ca.crt`: to everybody, the authority that vouches for the server; its key is thrown away.
    - `server.crt`, `server.key`: to the SuperLink alone. Valid for 30 days.
    - `node_<k>` and `node_<k>.pub`: the private key to node k alone, the public one to the SuperLink.

    Args:
        folder: where to write them; made if need be, readable for nobody else.
        hosts: names and addresses under which other computers reach the SuperLink.
        num_nodes: of the federation, the attacker included.

    Raises:
        ValueError: there is no node.
        FileExistsError: there are keys already.
    """
    folder = Path(folder)
    if num_nodes < 1:
        raise ValueError(f"num_nodes is {num_nodes}: it must be at least 1")
    if (folder / "ca.crt").exists():
        raise FileExistsError(f"there are keys in {folder} already: take another folder, or delete it")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority, server = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    issuer = _name("fl-gan-lab authority")
    root = _certificate(issuer, authority, issuer, authority, [x509.BasicConstraints(ca=True, path_length=0)])
    names = x509.SubjectAlternativeName([_general_name(host) for host in (*hosts, *LOCAL_HOSTS)])
    leaf = _certificate(_name("fl-gan-lab server"), server, issuer, authority, [names])
    _write(folder / "server.crt", leaf.public_bytes(Encoding.PEM))
    _write(folder / "server.key", server.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for number in range(num_nodes):
        node = ec.generate_private_key(ec.SECP384R1())
        _write(folder / f"node_{number}", node.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        public = node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        _write(folder / f"node_{number}.pub", public)
    # The last one, for it says that all are there: a call that was interrupted can be repeated.
    _write(folder / "ca.crt", root.public_bytes(Encoding.PEM))
    return folder


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    extensions: Sequence[x509.ExtensionType],
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=30))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(signer, hashes.SHA384())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
