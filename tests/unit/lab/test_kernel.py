"""The guest's kernel, and the order of its modules."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.lab import kernel
from homeport.lab.kernel import Kernel, load_order

NEEDS = {
    "virtio_ring": [],
    "virtio": ["virtio_ring"],
    "failover": [],
    "net_failover": ["failover"],
    "virtio_net": ["virtio", "net_failover"],
}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("ext4.ko", "ext4"),
        ("crc32c-generic.ko", "crc32c_generic"),
        ("virtio_blk.ko.xz", "virtio_blk"),
        ("a-b_c.ko.zst", "a_b_c"),
    ],
)
def test_module_names_come_from_file_names(file: str, name: str) -> None:
    assert kernel.module_name(file) == name


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"\x7fELF\0license=GPL\0depends=virtio_ring,virtio\0name=x\0", ["virtio_ring", "virtio"]),
        (b"\0depends=\0", []),
        (b"\0depends=crc32c-generic\0", ["crc32c_generic"]),
        (b"no such section", []),
    ],
)
def test_dependencies_are_read_from_the_module(body: bytes, expected: list[str]) -> None:
    assert kernel.dependencies(body) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], []),
        (["virtio_ring"], ["virtio_ring"]),
        (["virtio"], ["virtio_ring", "virtio"]),
        (
            ["virtio_net", "virtio"],
            ["virtio_ring", "virtio", "failover", "net_failover", "virtio_net"],
        ),
        (["ext4", "virtio"], ["virtio_ring", "virtio"]),
    ],
    ids=["none", "one", "below first", "each once", "built in is left out"],
)
def test_modules_come_after_what_they_need(wanted: list[str], expected: list[str]) -> None:
    assert load_order(wanted, NEEDS.get) == expected


@given(st.permutations(sorted(NEEDS)))
def test_any_order_wanted_gives_a_right_one(wanted: list[str]) -> None:
    order = load_order(wanted, NEEDS.get)
    assert sorted(order) == sorted(NEEDS)
    assert all(order.index(below) < order.index(name) for name in NEEDS for below in NEEDS[name])


def test_the_concrete_package_is_found_behind_the_meta_package() -> None:
    shown = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n"
    assert kernel.concrete_package(shown) == "linux-image-6.1.0-56-cloud-amd64"
    assert kernel.concrete_package("") is None


def tree(root: Path, *versions: str, modules: bool = True) -> Path:
    for version in versions:
        (root / "boot").mkdir(parents=True, exist_ok=True)
        (root / "boot" / f"vmlinuz-{version}").write_bytes(b"kernel")
        if modules:
            folder = root / "lib/modules" / version / "kernel"
            folder.mkdir(parents=True)
            for name, below in NEEDS.items():
                body = b"\0depends=" + ",".join(below).encode() + b"\0"
                (folder / f"{name}.ko.xz").write_bytes(lzma.compress(body))
    return root


def test_an_installed_kernel_is_taken_newest_first(tmp_path: Path) -> None:
    installed = tree(tmp_path / "system", "6.1.0-1-cloud-amd64", "6.1.0-2-cloud-amd64")
    found = kernel.find_kernel(tmp_path / "cache", installed=installed)
    assert found.version == "6.1.0-2-cloud-amd64"


def test_what_is_unpacked_in_the_cache_comes_before_what_is_installed(tmp_path: Path) -> None:
    tree(tmp_path / "cache/linux-image-6.1_amd64.unpacked", "6.1.0-1-cloud-amd64")
    installed = tree(tmp_path / "system", "9.9")
    found = kernel.find_kernel(tmp_path / "cache", installed=installed)
    assert found.version == "6.1.0-1-cloud-amd64"


def test_a_kernel_without_modules_is_none(tmp_path: Path) -> None:
    tree(tmp_path, "6.1.0-1", modules=False)
    assert list(kernel._kernels_below(tmp_path)) == []


def test_compressed_modules_are_unpacked_and_ordered(tmp_path: Path) -> None:
    root = tree(tmp_path, "6.1")
    found = Kernel(version="6.1", image=root / "boot/vmlinuz-6.1", modules=root / "lib/modules/6.1")
    modules = kernel.modules_in_order(found)
    assert list(modules) == ["virtio_ring", "virtio", "failover", "net_failover", "virtio_net"]
    assert modules["virtio"] == b"\0depends=virtio_ring\0"
