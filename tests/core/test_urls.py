"""Which addresses are public, judged by their text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.core.urls import Origin, check_public_address, is_loopback_ip, is_public_ip

if TYPE_CHECKING:
    import ipaddress

EMULATOR = Origin("http", "127.0.0.1", 8080)

PRIVATE_IPS = [
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.9",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "0.0.0.0",  # noqa: S104 -- an address to refuse, nothing is bound to it
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fe80::1",
    "fec0::1",
    "ff0e::1",
]
PUBLIC_IPS = [
    "8.8.8.8",
    "100.63.255.255",
    "172.32.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]


@pytest.mark.parametrize("ip", PRIVATE_IPS)
def test_an_ip_that_is_not_of_the_public_internet_is_refused(ip: str) -> None:
    literal = f"[{ip}]" if ":" in ip else ip
    assert not is_public_ip(ip)
    assert check_public_address(f"https://{literal}/x.png") is not None


@pytest.mark.parametrize("ip", PUBLIC_IPS)
def test_a_public_ip_is_fine(ip: str) -> None:
    literal = f"[{ip}]" if ":" in ip else ip
    assert is_public_ip(ip)
    assert check_public_address(f"https://{literal}/x.png") is None


@pytest.mark.parametrize("text", ["", "example.com", "fe80::1%eth0", "8.8.8.8 "])
def test_what_is_no_public_ip_is_neither_public_nor_loopback(text: str) -> None:
    assert not is_public_ip(text)
    assert not is_loopback_ip(text)


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/x.png",
        "HTTPS://Cdn.Example.COM:8443/a/b.png?signature=%2F..%40#part",
        "http://example.com",
        "https://xn--bcher-kva.example/ü.png",
        "https://my_bucket.s3.example.com/@me:1.png",
        "https://1.example.com/",
        "https://localhost.example.com/",
    ],
)
def test_a_public_address_is_fine(address: str) -> None:
    assert check_public_address(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "x.png",
        "/x.png",
        "./x.png",
        "~/x.png",
        "C:\\x.png",
        "c:/x.png",
        "\\\\server\\x.png",
        "file:///etc/passwd",
        "ftp://example.com/x.png",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "//example.com/x.png",
        "https:example.com",
        "https:/example.com",
        "https:///example.com",
        "https://",
        "https://?x",
        "https://:443/",
        "https://user@example.com/",
        "https://user:word@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com:/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:4a/",
        "https://example.com:٤٤٣/",
        "https://example.com./",
        "https://8.8.8.8./",
        "https://a..example.com/",
        "https://-a.example.com/",
        "https://" + "a" * 64 + ".example.com/",
        "https://" + "a." * 127 + "com/",
        "https://localhost/",
        "https://LOCALHOST:8080/",
        "https://localhost./",
        "https://a.localhost/",
        "https://printer.local/",
        "https://metadata.google.internal/",
        "https://intranet/",
        "https://zyng.sandbox.test/",
        "https://%31%32%37.0.0.1/",
        "https://example%2ecom/",
        "https://１２７.0.0.1/",  # noqa: RUF001 -- full-width digits
        "https://127。0。0。1/",  # ideographic full stops
        "https://bücher.example/",
        "https://exam\u00adple.com/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/a\\b.png",
        "https://example.com/a b.png",
        " https://example.com/",
        "https://example.com/\n",
        "https://exa\tmple.com/",
        "https://example.com/\x00",
        "https://example.com/\u202egnp.x",
        "https://example.com/\ud800",
        "https://[::1/",
        "https://[]/",
        "https://[127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[::1]evil/",
        "https://[2606:4700::1111%eth0]/",
        "https://example.com/" + "x" * 4096,
    ],
)
def test_a_mistaken_address_is_refused_with_the_way_out_and_without_the_address(
    address: str,
) -> None:
    text = check_public_address(address)
    assert text is not None
    assert text.startswith("the address ")
    assert "upload the file somewhere public" in text
    assert not address or address not in text


@pytest.mark.parametrize(
    ("address", "mistake"),
    [
        ("~/x.png", "is the path of a local file"),
        ("x.png", "does not begin with https://"),
        ("https://user@example.com/", "contains a user name or password"),
        ("https://a\\b.example.com/", "contains a backslash"),
        ("https://127.1/", "write four decimal numbers"),
        ("https://bücher.example/", "xn--"),
        ("https://10.0.0.1/", "is not public"),
    ],
)
def test_the_mistake_is_named(address: str, mistake: str) -> None:
    assert mistake in str(check_public_address(address))


@given(st.ip_addresses(v=4))
def test_an_unusual_spelling_of_an_ipv4_address_is_refused(ip: ipaddress.IPv4Address) -> None:
    number = int(ip)
    a, b, c, d = ip.packed
    for host in (
        f"{number}",
        f"{number:#x}",
        f"0{number:o}",
        f"0{a:o}.{b}.{c}.{d}",
        f"{a:#x}.{b}.{c}.{d}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"{a}.{b}.{c}.{d}.",
    ):
        assert check_public_address(f"http://{host}/") is not None, host


@given(st.ip_addresses(v=4))
def test_an_embedded_ipv4_address_is_judged_like_itself(ip: ipaddress.IPv4Address) -> None:
    assert is_public_ip(f"::ffff:{ip}") == is_public_ip(f"64:ff9b::{ip}") == is_public_ip(str(ip))


@given(st.text(st.sampled_from("abx019.:-_[]@%#?/\\ü0"), max_size=30) | st.text(max_size=30))
def test_what_is_accepted_is_read_alike_by_the_http_client(text: str) -> None:
    address = f"https://{text}.com/x"
    if check_public_address(address) is None:
        url, origin = httpx2.URL(address), Origin.of(address)
        assert (url.scheme, url.host, url.port or 443) == (origin.scheme, origin.host, origin.port)
        assert not url.userinfo


def test_http_is_refused_where_only_https_will_do() -> None:
    assert check_public_address("http://example.com/", https_only=True) is not None
    assert check_public_address("https://example.com/", https_only=True) is None


def test_an_admitted_origin_lets_exactly_itself_through() -> None:
    def fault(address: str) -> str | None:
        return check_public_address(address, https_only=True, admitted=[EMULATOR])

    assert fault("http://127.0.0.1:8080/x.png") is None
    assert fault("HTTP://127.0.0.1:8080?x") is None
    for address in (
        "https://127.0.0.1:8080/",
        "http://127.0.0.1/",
        "http://127.0.0.1:8081/",
        "http://127.0.0.2:8080/",
        "http://127.1:8080/",
        "http://localhost:8080/",
        "http://user@127.0.0.1:8080/",
    ):
        assert fault(address) is not None, address


def test_an_admitted_suffix_lets_hosts_below_it_through() -> None:
    def fault(address: str) -> str | None:
        return check_public_address(address, admitted_suffixes=[".sandbox.test"])

    assert fault("https://zyng.sandbox.test/x.png") is None
    assert fault("https://sandbox.test/") is not None
    assert fault("https://evilsandbox.test/") is not None
    assert fault("https://sandbox.test.localhost/") is not None


def test_an_origin_has_the_port_of_its_scheme_and_a_lower_case_host() -> None:
    assert Origin.of("HTTPS://Example.com/a") == Origin("https", "example.com", 443)
    assert Origin.of("http://localhost") == Origin("http", "localhost", 80)
    assert Origin.of("http://[::1]:9000/") == Origin("http", "::1", 9000)
    with pytest.raises(ValueError, match="local file"):
        Origin.of("/x.png")
