"""Spellings that lead inside a network, or to another host than the one that is read."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.addresses import OFFICIAL, Forbidden, checked, public

HOST = "x.example"
INSIDE = ("127.0.0.1", "10.0.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254", "0.0.0.0")


def mapped(address):
    return f"::ffff:{address}"


def translated(address):
    return str(ipaddress.IPv6Address((0x64FF9B << 96) | int(ipaddress.IPv4Address(address))))


def six_to_four(address):
    return str(ipaddress.IPv6Address((0x2002 << 112) | int(ipaddress.IPv4Address(address)) << 80))


def compatible(address):
    return str(ipaddress.IPv6Address(int(ipaddress.IPv4Address(address))))


@pytest.mark.parametrize("wrap", [mapped, translated, six_to_four, compatible])
@pytest.mark.parametrize("address", INSIDE)
def test_an_inside_address_is_seen_through_every_wrapping(wrap, address):
    with pytest.raises(Forbidden, match="not a public address"):
        public((wrap(address),), HOST)


@pytest.mark.parametrize("wrap", [mapped, translated, six_to_four])
def test_a_public_address_stays_public_in_each_wrapping(wrap):
    wrapped = wrap("93.184.216.34")
    assert public((wrapped,), HOST) == wrapped


@pytest.mark.parametrize(
    "address",
    [
        "fec0::1",
        "feff::1",
        "::ffff:0:7f00:1",
        "4000::1",
        "fc00::1",
        "2001:db8::1",
        "100::1",
        "64:ff9b:1::1",
        "ff05::1",
    ],
)
def test_what_is_set_aside_is_not_public(address):
    with pytest.raises(Forbidden):
        public((address,), HOST)


@pytest.mark.parametrize(
    "address", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1 ", "1.1.1.1/8", ""]
)
def test_a_number_in_another_notation_is_no_address(address):
    with pytest.raises(Forbidden, match="odd address"):
        public((address,), HOST)


def test_the_first_of_several_public_addresses_is_connected_to():
    assert public(("93.184.216.34", "1.1.1.1"), HOST) == "93.184.216.34"


def test_the_order_of_addresses_hides_none():
    for addresses in (("1.1.1.1", "10.0.0.1"), ("10.0.0.1", "1.1.1.1")):
        with pytest.raises(Forbidden, match=r"leads to 10\.0\.0\.1"):
            public(addresses, HOST)


@given(st.ip_addresses(v=4))
def test_wrapping_never_makes_an_address_public(address):
    def is_public(text):
        try:
            return bool(public((text,), HOST))
        except Forbidden:
            return False

    bare = is_public(str(address))
    assert is_public(mapped(address)) == is_public(translated(address)) == bare
    assert not is_public(compatible(address))


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://localhost/",
        "https://evil.example\\.github.com/",
        "https://a b.github.com/",
        "https://a..github.com/",
        "https://.github.com/",
        "https://github.com\\@evil.example/",
        "https://%67ithub.com/",
        "https://github.com%2eevil.example/",
        "https://g\N{LATIN SMALL LETTER DOTLESS I}thub.com/",
        "https://github\N{IDEOGRAPHIC FULL STOP}com/",
        "https://evil.github.com_/",
        "https://github.com:80/",
        "https://github.com:0443443/",
        "https://@github.com/",
        "https://:@github.com/",
        "//github.com/",
        "github.com/x",
        "javascript:alert(1)",
        "https:github.com/x",
    ],
)
def test_a_host_that_only_looks_allowed_is_refused(url):
    with pytest.raises(Forbidden):
        checked(url)


@pytest.mark.parametrize("odd", ["\t", "\n", "\r", "\0", " ", "\x1f"])
@pytest.mark.parametrize("place", [0, 8, 18, 20])
def test_a_blank_anywhere_is_refused_and_not_dropped(odd, place):
    url = "https://github.com/a/b"
    assert checked(url).url == url
    with pytest.raises(Forbidden):
        checked(url[:place] + odd + url[place:])


@pytest.mark.parametrize("char", ["\x7f", "\N{LATIN SMALL LETTER U WITH DIAERESIS}", "\u202e"])
def test_a_path_is_ascii_and_the_error_says_to_escape(char):
    with pytest.raises(Forbidden, match="escape them"):
        checked(f"https://github.com/{char}")
    assert checked(f"https://github.com/x#{char}").target == "/x"


def test_a_host_ends_in_one_point_at_most_and_keeps_no_case():
    assert checked("https://GitHub.COM./x").host == "github.com"


def test_no_host_is_allowed_where_none_is_named():
    with pytest.raises(Forbidden, match="not among the allowed hosts"):
        checked("https://github.com/", ())


@pytest.mark.parametrize("host", OFFICIAL)
def test_every_official_host_and_what_lies_below_it_is_allowed(host):
    assert checked(f"https://{host}/a?b#c").target == "/a?b"
    assert checked(f"https://sub.{host}").host == f"sub.{host}"
    with pytest.raises(Forbidden):
        checked(f"https://{host}.example/")
    with pytest.raises(Forbidden):
        checked(f"https://evil{host}/", (host,))


def test_the_error_of_a_login_does_not_repeat_it():
    with pytest.raises(Forbidden) as caught:
        checked("https://me:hunter2@github.com/")
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=30), st.text(max_size=30))
def test_whatever_is_accepted_has_an_allowed_host(before, after):
    try:
        address = checked(f"https://{before}github.com{after}")
    except Forbidden:
        return
    assert address.host == "github.com" or address.host.endswith(".github.com")
    assert address.target.startswith("/")
    assert address.target.isascii()
