from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.addresses import OFFICIAL, Forbidden, checked, public


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("https://docs.nvidia.com/cuda/", "docs.nvidia.com", "/cuda/"),
        ("https://DOCS.nvidia.com:443/a?b=c#d", "docs.nvidia.com", "/a?b=c"),
        ("https://github.com", "github.com", "/"),
        ("https://gist.github.com/x", "gist.github.com", "/x"),
    ],
)
def test_an_official_page_may_be_asked(url, host, target):
    address = checked(url)
    assert (address.host, address.target) == (host, target)


@pytest.mark.parametrize(
    "url",
    [
        "http://docs.nvidia.com/",
        "file:///etc/passwd",
        "ftp://docs.nvidia.com/",
        "https://docs.nvidia.com:8443/",
        "https://user:secret@docs.nvidia.com/",
        "https://docs.nvidia.com@evil.example/",
        "https://evil.example/docs.nvidia.com",
        "https://docs.nvidia.com.evil.example/",
        "https://evildocs.nvidia.com.example/",
        "https://notgithub.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data",
        "https:///x",
        "https://docs.nvidia.com/a b",
        "https://docs.nvidia.com/\r\nHost: evil",
        "https://docs.nvidia.com:port/",
        "",
    ],
)
def test_anything_else_is_refused(url):
    with pytest.raises(Forbidden):
        checked(url)


def test_further_hosts_may_be_allowed():
    assert checked("https://wiki.example/x", (*OFFICIAL, "wiki.example")).host == "wiki.example"


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_a_public_address_is_connected_to(address):
    assert public((address,), "x.example") == address


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "ff02::1",
        "nonsense",
    ],
)
def test_an_address_inside_is_refused_even_beside_a_public_one(address):
    with pytest.raises(Forbidden):
        public(("93.184.216.34", address), "x.example")


def test_a_host_without_an_address_is_refused():
    with pytest.raises(Forbidden, match="no address"):
        public((), "x.example")


@given(st.ip_addresses(v=4).filter(lambda one: one.is_private))
def test_no_private_address_is_ever_public(address):
    with pytest.raises(Forbidden):
        public((str(address),), "x.example")


@given(st.text(max_size=40))
def test_no_text_after_a_host_makes_another_one(text):
    with suppress(Forbidden):
        assert checked(f"https://docs.nvidia.com/{text}").host == "docs.nvidia.com"
