"""Check of URLs and IP addresses that the platform calls for its users: public ones, without parser tricks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias
from urllib.parse import urlsplit

from aerotask.domain.errors import InvalidInput

MAX_URL_CHARS = 2048

Address: TypeAlias = IPv4Address | IPv6Address
_DEFAULT_PORTS = {"http": 80, "https": 443}

# Special-purpose addresses by IANA's registries. Listed here, since `ipaddress.is_global` differs between versions
# of Python and treats wrapped private addresses as public.
_NOT_PUBLIC_V4 = tuple(
    IPv4Network(block)
    for block in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's host agent, which serves a machine's settings and keys
    )
)
# All public IPv6 addresses: this excludes ::1, fc00::/7, fe80::/10, ff00::/8 and `::127.0.0.1` …
_PUBLIC_V6 = IPv6Network("2000::/3")
# … except these: protocol assignments (including Teredo), documentation, 6to4.
_NOT_PUBLIC_V6 = tuple(IPv6Network(b) for b in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
# IPv6 addresses that map to the IPv4 address in their last 32 bits.
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")

_VISIBLE_ASCII = re.compile(r"[!-~]+")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")


class _InvalidUrl(ValueError):
    """The URL is malformed or private; the message continues a sentence about it."""


@dataclass(frozen=True, slots=True)
class WebAddress:
    """A checked URL in its parts, so that no second parser can read it differently."""

    scheme: str
    host: str
    """A name, or an IP address in canonical form without brackets."""
    port: int
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """Host and port for the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def is_public(address: Address) -> bool:
    """True for an address of the public internet; a wrapped IPv4 address is unwrapped first."""
    if isinstance(address, IPv4Address):
        return not any(address in block for block in _NOT_PUBLIC_V4)
    if address in _MAPPED or address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _PUBLIC_V6 and not any(address in block for block in _NOT_PUBLIC_V6)


def check_url(url: str, *, allow_private: bool = False, field: str = "callbackUrl") -> WebAddress:
    """The parts of a URL, which messages call `field`; names are resolved and checked only when connecting.

    Raises:
        InvalidInput: the URL is malformed, or its host is a private address.
    """
    try:
        address = _parts(url)
        if not allow_private:
            _raise_if_private(address.host)
    except _InvalidUrl as error:
        # Without the URL: it may contain a secret, and messages end up in logs.
        raise InvalidInput(f"'{field}' {error}.", code="invalid-callback-url") from error
    return address


def _parts(url: str) -> WebAddress:
    if len(url) > MAX_URL_CHARS:
        raise _InvalidUrl(f"is longer than {MAX_URL_CHARS} characters")
    # Before parsing: `urlsplit` drops tabs and line ends, and reads a backslash as part of the host.
    if not _VISIBLE_ASCII.fullmatch(url) or "\\" in url:
        raise _InvalidUrl("contains a space, a backslash or a non-ASCII character; percent-encode it")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError as error:
        raise _InvalidUrl("is malformed") from error
    if split.scheme not in _DEFAULT_PORTS:
        raise _InvalidUrl("is neither http nor https")
    if "@" in split.netloc:
        raise _InvalidUrl("contains a user name or a password; put credentials into the path or query")
    if "#" in url:
        raise _InvalidUrl("contains a fragment, which is never sent")
    if port == 0:
        raise _InvalidUrl("uses port 0")
    target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    return WebAddress(split.scheme, _host(split.netloc), port or _DEFAULT_PORTS[split.scheme], target)


def _host(netloc: str) -> str:
    """The host of a URL's authority, checked for its syntax; an IP address in canonical form."""
    if netloc.startswith("["):
        literal, _, rest = netloc[1:].partition("]")
        if "%" in literal or (rest and not rest.startswith(":")):
            raise _InvalidUrl("has a malformed host")
        try:
            return str(IPv6Address(literal))
        except ValueError as error:
            raise _InvalidUrl("has a malformed host") from error
    host = netloc.partition(":")[0].lower()
    bare = host.removesuffix(".")
    if not bare:
        raise _InvalidUrl("has no host")
    if len(bare) > 253 or not all(map(_LABEL.fullmatch, bare.split("."))):
        raise _InvalidUrl("has a malformed host; write internationalised names in Punycode")
    number = _ipv4_in_any_spelling(bare)
    return host if number is None else str(number)


def _raise_if_private(host: str) -> None:
    bare = host.removesuffix(".")
    if bare == "localhost" or bare.endswith(".localhost"):
        raise _InvalidUrl("names the local machine")
    try:
        literal = ip_address(host)
    except ValueError:  # a name, which is checked when it is resolved
        return
    if not is_public(literal):
        raise _InvalidUrl("names an address that is private, local or reserved")


def _ipv4_in_any_spelling(host: str) -> IPv4Address | None:
    """The address that a resolver reads from `127.1`, `0x7f000001`, `017700000001`, …; None for a name.

    By the rules of the WHATWG URL standard (section 3.5), which are those of `inet_aton`.
    """
    parts = host.split(".")
    if not _NUMBER.fullmatch(parts[-1]):
        return None
    if len(parts) > 4 or not all(map(_NUMBER.fullmatch, parts)):
        raise _InvalidUrl("has a host that is neither a name nor an IP address")
    try:
        *leading, last = map(_number, parts)
    except ValueError as error:
        raise _InvalidUrl("has a host that is neither a name nor an IP address") from error
    if any(part > 255 for part in leading) or last >= 256 ** (4 - len(leading)):
        raise _InvalidUrl("has a host that is neither a name nor an IP address")
    return IPv4Address(last + sum(part << (24 - 8 * place) for place, part in enumerate(leading)))


def _number(part: str) -> int:
    if part[:2].lower() == "0x":
        return int(part[2:] or "0", 16)
    return int(part, 8 if part.startswith("0") else 10)
