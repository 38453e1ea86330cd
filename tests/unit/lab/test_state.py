"""What a lab keeps about itself."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from homeport.lab import state
from homeport.lab.processes import ProcessId
from homeport.lab.state import HostSpec, HostState, LabState

names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
specs = st.builds(
    HostSpec,
    name=names,
    agent=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    environment=st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=2),
    cut_folders=st.lists(names.map(lambda name: Path("/") / name), max_size=2).map(tuple),
)
processes = st.builds(ProcessId, pid=st.integers(1, 2**22), started=st.integers(0, 2**40))
hosts = st.builds(
    HostState,
    spec=specs,
    index=st.integers(0, 200),
    address=st.integers(0, 2**32 - 1).map(IPv4Address),
    veth=names,
    first=st.none() | processes,
    cut=st.booleans(),
)
labs = st.builds(
    LabState,
    network=st.just(IPv4Network("169.254.220.0/24")),
    bridge=names,
    dhcp=st.booleans(),
    hosts=st.lists(hosts, max_size=3).map(lambda some: {host.spec.name: host for host in some}),
)


@given(labs)
def test_a_state_is_read_back_as_it_was_written(lab: LabState) -> None:
    assert state.load(json.loads(json.dumps(state.dump(lab)))) == lab


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert state.read(tmp_path / "state.json") is None


def host(name: str, *, cut: bool = False) -> HostState:
    address = IPv4Address("169.254.213.2")
    return HostState(spec=HostSpec(name=name), index=0, address=address, veth="v", cut=cut)


def test_a_host_takes_its_namesakes_place_and_the_old_state_stays() -> None:
    empty = LabState(network=IPv4Network("169.254.213.0/24"), bridge="b", dhcp=True, hosts={})
    one = empty.with_host(host("east"))
    two = one.with_host(host("west")).with_host(host("east", cut=True))
    assert list(two.hosts) == ["east", "west"]
    assert two.hosts["east"].cut
    assert not one.hosts["east"].cut
    assert not empty.hosts


def test_writing_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    empty = LabState(network=IPv4Network("169.254.213.0/24"), bridge="b", dhcp=True, hosts={})
    state.write(tmp_path / "state.json", empty)
    state.write(tmp_path / "state.json", empty.with_host(host("east")))
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert state.read(tmp_path / "state.json") == empty.with_host(host("east"))
