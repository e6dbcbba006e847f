"""Machines that hypothesis makes up, each as some QEMU would take it."""

from __future__ import annotations

from hypothesis import strategies as st

from hwflash.qemu.machine import FlashFile, Machine

#: File names that hurt: commas, colons, quotes, equals signs, dashes, blanks, protocols.
AWKWARD = [
    "a,b", "a,,b", ",", "x:y", "nbd:host", "file:x", "./x:y", "././x:y", "-drive", "a=b", "a b",
    "a'b", 'a"b', "#a", "a\\b", "json:{}", "$(x)", "~", "{}", "<&>", "]]>", "é", "a.fd ", " a",
]  # fmt: skip


_names = st.one_of(
    st.sampled_from(AWKWARD),
    st.text(
        st.characters(exclude_categories=["Cs", "Cc", "Cn"]) | st.sampled_from(",:/=\\'\" #-"),
        min_size=1,
        max_size=12,
    ),
)
_formats = st.sampled_from(["raw", "qcow2"])


def files(*, readonly: bool | None = None, absolute: bool = False) -> st.SearchStrategy[FlashFile]:
    names = _names.map(lambda name: f"/{name}") if absolute else _names
    write = st.booleans() if readonly is None else st.just(readonly)
    return st.builds(FlashFile, names, _formats, write)


@st.composite
def machines(draw: st.DrawFn, *, for_libvirt: bool = False) -> Machine:
    absolute = for_libvirt
    arm = draw(st.booleans())
    arch = draw(st.sampled_from(["aarch64", "arm"] if arm else ["x86_64", "i386"]))
    kinds = ["virt", "virt-7.2"] if arm else ["q35", "pc", "pc-q35-7.2", "pc-i440fx-2.12"]
    maybe = st.none() if arm else st.sampled_from([None, True, False])
    own = draw(st.none() | files(readonly=False if for_libvirt else None, absolute=absolute))
    limit = st.none() if arm or for_libvirt else st.none() | st.integers(1, 1 << 24)
    template = st.none() | files(readonly=True, absolute=absolute) if own else st.none()
    return Machine(
        code=draw(files(absolute=absolute)), vars=own, template=draw(template),
        machine=draw(st.sampled_from(kinds)), architecture=arch, secure=draw(st.booleans()),
        smm=draw(maybe), s3=draw(maybe), max_firmware_size=draw(limit),
    )  # fmt: skip
