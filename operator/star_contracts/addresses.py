"""Addresses that nobody may have a pod call: those of the node and of the cloud, where credentials are given away.

Every machine of a cloud reads its own credentials at a link-local address (169.254.169.254 and its like). Whoever may
name a URL that a pod asks would otherwise read what belongs to the node.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

_METADATA_NAMES = frozenset(
    {
        "metadata",  # Google Cloud, by the search list of its nodes
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",  # AWS, by its search list; with its domain behind it, too
        "metadata.azure.internal",
        "api.metadata.cloud.ibm.com",
        "metadata.tencentyun.com",
        "metadata.packet.net",  # Equinix Metal
        "metadata.platformequinix.com",
    }
)
_METADATA_NETS = tuple(
    ip_network(net)
    for net in (
        "169.254.0.0/16",  # RFC 3927; AWS, Azure, Google Cloud, OpenStack
        "fe80::/10",  # RFC 4291
        "fd00:ec2::/32",  # AWS over IPv6
        "fd20:ce::254/128",  # Google Cloud over IPv6
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure's wire server
        "192.0.0.192/32",  # Oracle Cloud
    )
)
_HOLD_IPV4 = tuple(
    ip_network(net)
    for net in (
        "::/96",  # RFC 4291, IPv4-compatible
        "::ffff:0:0:0/96",  # RFC 2765, IPv4-translated
        "64:ff9b::/96",  # RFC 6052, NAT64
        "64:ff9b:1::/48",  # RFC 8215, NAT64 of a site
    )
)
"""IPv6 addresses that end with the IPv4 address which they stand for."""


def host_of(url: str) -> str:
    """Return the host of a URL, in small letters, without brackets, zone and last dot; empty where it has none."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return host.partition("%")[0].rstrip(".")


def is_forbidden_host(host: str) -> bool:
    """Tell whether a host, as `host_of` returns it, is a metadata service by name or by any spelling of an address."""
    found = _as_address(host)
    return host in _METADATA_NAMES or host.startswith("instance-data.") or (found is not None and _is_forbidden(found))


def is_forbidden_address(address: str) -> bool:
    """Tell whether an address that a name stands for is one of the node's or the cloud's own."""
    return _is_forbidden(ip_address(address.partition("%")[0]))


def metadata_networks(version: int) -> list[str]:
    """Return the networks of IP version 4 or 6 in which nodes and clouds give credentials away."""
    return [str(net) for net in _METADATA_NETS if net.version == version]


def is_allowed_host(host: str, allowed: tuple[str, ...]) -> bool:
    """Tell whether a host is in a list of hosts and domains (`.example.com`: all below it). Empty, it allows all."""
    return not allowed or any(
        host.endswith(entry) if entry.startswith(".") else host == entry for entry in map(str.lower, allowed)
    )


def _as_address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address a host spells. C libraries read `0xa9fea9fe`, `2852039166` and `169.254.43518`, too."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host)) if host[:1].isdigit() else None
    except (OSError, UnicodeEncodeError):
        return None


def _is_forbidden(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and any(address in net for net in _HOLD_IPV4):
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and _is_forbidden(inner):
            return True
    return any(address in net for net in _METADATA_NETS if net.version == address.version)
