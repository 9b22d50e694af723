from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerotask.domain.errors import InvalidInput
from aerotask.net.addresses import WebAddress, check_url, is_public

SECRET_URL = "http://127.0.0.1/?token=s3cr3t"

# Every known spelling of an address that is not public.
PRIVATE_HOSTS = [
    # loopback: dotted, short, decimal, octal, hexadecimal, mixed, padded, with the root's dot
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "127.65535",
    "127.255.255.254",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0177.1",
    "00000177.0.0.01",
    "0x7f000001",
    "0X7F000001",
    "0x7f.1",
    "0x7f.0x0.0x0.0x1",
    "0x7f.0.0.01",
    "0x7F.00.0x.0x1",
    "LOCALHOST",
    "localhost",
    "localhost.",
    "a.localhost",
    "a.b.LocalHost.",
    # unspecified
    "0",
    "0.0.0.0",
    "0x0",
    "00",
    "0.1.2.3",
    # private
    "10.0.0.1",
    "10.1",
    "012.1",
    "167772161",
    "172.16.0.1",
    "172.31.255.255",
    "0xac100001",
    "192.168.1.1",
    "192.168.257",
    "3232235777",
    "0300.0250.1.1",
    # link-local, including cloud metadata services
    "169.254.169.254",
    "169.254.43518",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "168.63.129.16",
    "[::ffff:168.63.129.16]",
    # shared, protocols, benchmarks, documentation, 6to4 relays
    "100.64.0.1",
    "100.127.255.255",
    "192.0.0.1",
    "192.0.0.170",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    # multicast, reserved, broadcast
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "4294967295",
    # IPv6: loopback, unspecified, unique local, link-local, site-local, multicast
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000::0001]",
    "[::]",
    "[fc00::1]",
    "[fd12:3456:789a::1]",
    "[fe80::1]",
    "[FE80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[ff0e::1]",
    # … discard-only, documentation, protocols, segment routing, unassigned
    "[100::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[2001:2::1]",
    "[2001:10::1]",
    "[2001:20::1]",
    "[5f00::1]",
    "[4000::1]",
    "[8000::1]",
    # IPv4 within IPv6: mapped, compatible, NAT64, 6to4, Teredo, translated
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[::FFFF:10.0.0.1]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[::10.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2002:a00:1::1]",
    "[2002:c0a8:101::1]",
    "[2001:0:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[::ffff:0:127.0.0.1]",
]
PUBLIC_HOSTS = [
    "example.com",
    "EXAMPLE.com.",
    "a-b.example_1.org",
    "xn--bcher-kva.example",
    "notlocalhost",
    "localhost.example.com",
    "1.1.1.1",
    "8.8.8.8",
    "134744072",
    "0x8.0x8.0x8.0x8",
    "172.15.255.255",
    "172.32.0.1",
    "100.128.0.1",
    "192.0.3.1",
    "223.255.255.255",
    "[2606:4700:4700::1111]",
    "[2a00:1450:4001:82a::200e]",
    "[::ffff:8.8.8.8]",
    "[64:ff9b::8.8.8.8]",
]


def refusal(url: str, *, allow_private: bool = False) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        check_url(url, allow_private=allow_private)
    assert caught.value.code == "invalid-callback-url"
    return caught.value


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
@pytest.mark.parametrize("form", ["http://{}", "https://{}:8443/hook?x=1"])
def test_a_private_address_is_refused_in_every_spelling(form: str, host: str) -> None:
    refusal(form.format(host))


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
def test_a_setting_allows_private_addresses(host: str) -> None:
    check_url(f"http://{host}/hook", allow_private=True)


@pytest.mark.parametrize("host", PUBLIC_HOSTS)
@pytest.mark.parametrize("scheme", ["http", "https", "HTTPS"])
def test_public_names_and_addresses_are_accepted(scheme: str, host: str) -> None:
    assert check_url(f"{scheme}://{host}/hook").scheme == scheme.lower()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "/hook",
        "http:",
        "http:/",
        "http://",
        "http:///hook",
        "http:example.com",
        "http://?x",
        "http://:80/",
        "http://./",
        "http://../",
        # other schemes
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/_x",
        "javascript:alert(1)",
        "ws://example.com/",
        "unix:///run/x.sock",
        "httpx://example.com/",
        # userinfo
        "http://user@example.com/",
        "http://user:password@example.com/",
        "http://@example.com/",
        "http://:@example.com/",
        "http://example.com@127.0.0.1/",
        "http://example.com:80@127.0.0.1/",
        "http://127.0.0.1:80@example.com/",
        # fragments
        "http://example.com/#x",
        "http://example.com#",
        "http://example.com#@127.0.0.1/",
        # parsers disagree about these
        "http://example.com\\@127.0.0.1/",
        "http:\\\\example.com",
        "http://example.com\t.evil.example/",
        "http://exa\nmple.com/",
        "http://example.com/\r\nX-Header: 1",
        "http://example.com/\x00",
        " http://example.com/",
        "http://example.com/ ",
        "http://example.com /",
        "http://1.1.1.1 &@2.2.2.2# @3.3.3.3/",
        "http://example.com/ü",
        "http://bücher.example/",
        "http://①②⑦.⓪.⓪.①/",
        "http://１２７.０.０.１/",
        "http://127。0。0。1/",
        "http://ⓛocalhost/",
        "http://example.com/\ud800",
        # hosts
        "http://%31%32%37.0.0.1/",
        "http://exa%6dple.com/",
        "http://a..b/",
        "http://-a.example/",
        "http://a-.example/",
        f"http://{'a' * 64}.example/",
        f"http://{'a.' * 127}aa/",
        "http://a,b/",
        "http://a;b/",
        "http://a$b/",
        "http://{a}/",
        "http://*.example.com/",
        "http://[::1/",
        "http://::1/",
        "http://[::1]x/",
        "http://[::1]@example.com/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[1.2.3.4]/",
        "http://[v1.fe80::a]/",
        "http://[]/",
        # numbers that are not addresses
        "http://256.1.1.1.1/",
        "http://1.2.3.4.5/",
        "http://127.0.0.256/",
        "http://256.0.0.1/",
        "http://4294967296/",
        "http://08.0.0.1/",
        "http://example.1/",
        "http://example.0x7f/",
        "http://1.2.3.09/",
        # ports
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:-1/",
        "http://example.com:80:80/",
        "http://example.com:x/",
        "http://example.com:0x50/",
        "http://example.com:8 0/",
        # length
        f"http://example.com/{'a' * 2030}",
    ],
)
@pytest.mark.parametrize("allow_private", [False, True])
def test_a_malformed_url_is_refused(url: str, allow_private: bool) -> None:  # noqa: FBT001
    refusal(url, allow_private=allow_private)


def test_a_url_of_the_maximum_length_is_accepted() -> None:
    assert len(check_url(f"http://example.com/{'a' * 2029}").target) == 2030


@pytest.mark.parametrize(
    ("url", "address", "authority"),
    [
        ("http://example.com", WebAddress("http", "example.com", 80, "/"), "example.com"),
        ("https://Example.com/a;b/c?d=e&f", WebAddress("https", "example.com", 443, "/a;b/c?d=e&f"), None),
        ("http://0x08.010.2056/", WebAddress("http", "8.8.8.8", 80, "/"), "8.8.8.8"),
        ("https://example.com?x", WebAddress("https", "example.com", 443, "/?x"), "example.com"),
        ("https://example.com:443/", WebAddress("https", "example.com", 443, "/"), "example.com"),
        ("https://example.com:80/", WebAddress("https", "example.com", 80, "/"), "example.com:80"),
        (
            "http://[2606:4700::1]:8080/x",
            WebAddress("http", "2606:4700::1", 8080, "/x"),
            "[2606:4700::1]:8080",
        ),
    ],
)
def test_a_url_is_split_into_its_parts(url: str, address: WebAddress, authority: str | None) -> None:
    assert check_url(url) == address
    assert address.authority == (authority or "example.com")


def test_the_error_does_not_contain_the_url() -> None:
    assert "s3cr3t" not in refusal(SECRET_URL).message


@given(st.ip_addresses(v=4))
def test_a_wrapped_address_is_checked_like_the_plain_one(address: object) -> None:
    plain = ip_address(str(address))
    for form in (f"::ffff:{plain}", f"64:ff9b::{plain}"):
        assert is_public(ip_address(form)) == is_public(plain)
    assert not is_public(ip_address(f"::{plain}"))
    assert not is_public(ip_address(f"2002:{int(plain) >> 16:x}:{int(plain) & 0xFFFF:x}::1"))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_addresses_that_python_calls_special_are_never_public(address: object) -> None:
    plain = ip_address(str(address))
    if (
        plain.is_private
        or plain.is_loopback
        or plain.is_link_local
        or plain.is_multicast
        or plain.is_unspecified
    ):
        assert not is_public(plain) or str(plain).startswith(("::ffff:", "64:ff9b::"))


@given(st.text(max_size=60))
def test_arbitrary_text_does_not_break_the_check(text: str) -> None:
    for url in (text, f"http://{text}", f"http://{text}/x", f"https://[{text}]:1/"):
        try:
            checked = check_url(url)
        except InvalidInput as error:
            assert error.code == "invalid-callback-url"  # noqa: PT017  a law about either outcome
        else:
            assert checked.host
