"""A certification authority for tests: keys, certificates and lists of revoked ones as PEM files in a folder."""
import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stack import write_private

HOUR = datetime.timedelta(hours=1)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _private(path: Path, key) -> Path:
    return write_private(path, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                 serialization.NoEncryption()).decode())


class Pair:
    """A certificate (with the authority's, if that is not a root) and its key, as files."""

    def __init__(self, folder: Path, name: str, cert: x509.Certificate, key, above: bytes = b""):
        self.cert, self.serial = folder / f"{name}.crt", cert.serial_number
        pem = cert.public_bytes(serialization.Encoding.PEM)
        self.cert.write_bytes(pem + above)
        self.key = _private(folder / f"{name}.key", key)


class Authority:
    """`issuer` None: its own root; else an authority below."""

    def __init__(self, folder: Path, name: str, issuer: "Authority | None" = None):
        self.folder, self.name, self.key = Path(folder), name, ec.generate_private_key(ec.SECP256R1())
        self.root = issuer
        builder = self._builder(_name(name), self.key, HOUR * 24, (issuer or self).name)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = builder.sign((issuer or self).key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)
        self.file = self.folder / f"{name}.pem"
        self.file.write_bytes(self.pem)

    def _builder(self, subject: x509.Name, key, life: datetime.timedelta, issuer: str) -> x509.CertificateBuilder:
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(_name(issuer)).public_key(key.public_key())
                .serial_number(x509.random_serial_number()).not_valid_before(_now() - HOUR).not_valid_after(_now() + life))

    def issue(self, name: str, uris=(), dns=(), ips=(), others=(), life: datetime.timedelta = HOUR, server: bool = False,
              signs: bool | None = True) -> Pair:
        """`others`: (OID, DER) of otherNames. `signs`: whether its keyUsage has digitalSignature; None: it has no keyUsage."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = ([x509.UniformResourceIdentifier(u) for u in uris] + [x509.DNSName(d) for d in dns] +
                 [x509.IPAddress(ipaddress.ip_address(i)) for i in ips] +
                 [x509.OtherName(x509.ObjectIdentifier(oid), der) for oid, der in others])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (self._builder(_name(name), key, life, self.name)
                   .add_extension(x509.SubjectAlternativeName(names), critical=False)
                   .add_extension(x509.ExtendedKeyUsage([usage]), critical=False))
        if signs is not None:
            builder = builder.add_extension(x509.KeyUsage(
                digital_signature=signs, key_agreement=not signs, content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False), critical=True)
        cert = builder.sign(self.key, hashes.SHA256())
        return Pair(self.folder, name, cert, key, self.pem if self.root is not None else b"")

    def revoke(self, *serials: int, life: datetime.timedelta = HOUR) -> bytes:
        """A list of these, current for `life` (which may be over)."""
        builder = (x509.CertificateRevocationListBuilder().issuer_name(_name(self.name))
                   .last_update(_now() - 2 * HOUR).next_update(_now() + life))
        for serial in serials:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_now() - HOUR).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
