"""Servers below HTTP, for tests: a function sends on a connection, encrypted or not; and certificates."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Speaker = Callable[[socket.socket, threading.Event], None]
"""Serves one connection until it has sent all, or the test has ended."""


@dataclass(frozen=True)
class Certificate:
    """A certificate that signs itself, and the server side of an encrypted line with it."""

    path: Path
    context: ssl.SSLContext


def certificate(folder: Path, *names: str) -> Certificate:
    """Make a certificate for names of hosts, or for addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server of tests")])
    now = datetime.datetime.now(datetime.UTC)
    hosts: list[x509.GeneralName] = []
    for name in names:
        try:
            hosts.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            hosts.append(x509.DNSName(name))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    path, private = folder / "certificate.pem", folder / "key.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, private)
    return Certificate(path, context)


@contextmanager
def speaking(speaker: Speaker, encrypted: ssl.SSLContext | None = None) -> Iterator[str]:
    """Let a function serve each connection, each in its own thread; yield host and port."""
    ended = threading.Event()

    def speak(line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            if encrypted is None:
                speaker(line, ended)
            else:
                with encrypted.wrap_socket(line, server_side=True) as secure:
                    speaker(secure, ended)

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    line, _ = server.accept()
                    threading.Thread(target=speak, args=(line,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def saying(answer: bytes) -> Speaker:
    """Send an answer once a request has come, and end the connection."""

    def speak(line: socket.socket, _ended: threading.Event) -> None:
        line.recv(65536)
        line.sendall(answer)

    return speak
