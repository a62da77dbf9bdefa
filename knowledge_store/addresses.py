"""Which addresses of the web may be asked: official hosts, https, public addresses. Pure."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from knowledge_store.errors import SourceError

OFFICIAL = (
    "arxiv.org",
    "cccl-libs.github.io",
    "docs.flashinfer.ai",
    "docs.nvidia.com",
    "docs.pytorch.org",
    "docs.sglang.ai",
    "docs.vllm.ai",
    "developer.nvidia.com",
    "github.com",
    "nvidia.github.io",
    "pytorch.org",
    "raw.githubusercontent.com",
    "research.colfax-intl.com",
    "rocm.docs.amd.com",
    "tilelang.com",
    "triton-lang.org",
)
"""Hosts of the makers of what is optimised; a settings file may name others."""

_HTTPS = 443
_HOST = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Its last 32 bits are the IPv4 address that a translator connects to. Source: RFC 6052."""


class Forbidden(SourceError):
    """An address may not be asked; the message says which rule holds it back."""


@dataclass(frozen=True, slots=True)
class Address:
    """A checked URL in its parts."""

    url: str
    host: str
    target: str
    """Path and query, as the request line has it."""


def checked(url: str, hosts: tuple[str, ...] = OFFICIAL) -> Address:
    """Return a URL in its parts.

    Args:
        url: to be asked.
        hosts: allowed, with every name below them.

    Raises:
        Forbidden: it is not https at its usual port, carries a login, or its host is not allowed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Forbidden(f"{url!r} is not a URL: {error}") from error
    if parts.scheme != "https" or port not in {None, _HTTPS}:
        raise Forbidden(f"{url!r} is not https at port {_HTTPS}")
    if parts.username is not None or parts.password is not None:
        raise Forbidden("a URL with a login in it is not asked")
    host = (parts.hostname or "").rstrip(".").lower()
    if not any(host == one or host.endswith(f".{one}") for one in hosts):
        raise Forbidden(f"{host or url!r} is not among the allowed hosts: {', '.join(hosts)}")
    if not _HOST.fullmatch(host):
        raise Forbidden(f"{host!r} is not a name that a host may have")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    # The parser drops tabs and ends of lines; what is cited would then not be what was asked.
    if any(char <= " " for char in url) or any(not " " < char <= "~" for char in target):
        raise Forbidden(f"{url!r} has characters that a URL may not have; escape them")
    return Address(url=url, host=host, target=target)


def public(addresses: tuple[str, ...], host: str) -> str:
    """Return the address to connect to.

    Every one of them must be public, not only the first: a name that also leads inside is not
    trusted at all.

    Raises:
        Forbidden: one is private, loopback, link-local, reserved or multicast, or there is none.
    """
    if not addresses:
        raise Forbidden(f"{host} has no address")
    for text in addresses:
        try:
            one = ipaddress.ip_address(text.partition("%")[0])
        except ValueError as error:
            raise Forbidden(f"{host} has an odd address: {text!r}") from error
        inner = _inner(one)
        if not inner.is_global or inner.is_multicast or _is_set_aside(inner):
            raise Forbidden(f"{host} leads to {text}, which is not a public address")
    return addresses[0]


def _inner(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address that an IPv6 one wraps, or itself."""
    if isinstance(address, ipaddress.IPv6Address):
        teredo = address.teredo
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)
    return address


def _is_set_aside(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Tell whether an address is of no use in public, though no registry lists it as private."""
    is_site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_reserved or is_site_local
