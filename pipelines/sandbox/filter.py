"""The second wall: a seccomp filter that refuses system calls which no raster needs, as a classic BPF program.

Built for the two architectures that we know; elsewhere there is none, and the isolation says so. Calls are refused
with EPERM, so that libraries fall back; ``clone3`` with ENOSYS, as its flags cannot be looked at, whereupon libc takes
``clone``. A program that asks in another architecture's numbers is killed.
"""

from __future__ import annotations

import struct

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_*."""
_CALLS: dict[str, tuple[int | None, int | None]] = {
    # name: number on x86_64, on aarch64
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161),
    "setdomainname": (171, 162), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262), "lookup_dcookie": (212, 18), "personality": (135, 92), "vhangup": (153, 58),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "mknod": (133, None), "mknodat": (259, 33),
    # Memory that no process has mapped, and descriptors that none has open, would count nowhere.
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186),
    "semget": (64, 190), "vmsplice": (278, 75), "sendmsg": (46, 211), "sendmmsg": (307, 269),
}  # fmt: skip
_SOCKET, _CLONE, _CLONE3, _IOCTL = (41, 198), (56, 220), (435, 435), (16, 29)
_AF_UNIX, _TIOCSTI, _TIOCLINUX = 1, 0x5412, 0x541C
_NAMESPACES = 0x7E02_0080
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWTIME."""
_X32 = 0x4000_0000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF_0000, 0x8000_0000, 0x0005_0001, 0x0005_0026
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
"""Offsets in ``struct seccomp_data``; of an argument its lower half."""

Instruction = tuple[int, int, int, int]


def program(machine: str) -> bytes | None:
    """The filter for this machine (``platform.machine()``), as the kernel wants it; None: not known."""
    if machine not in _ARCHITECTURES:
        return None
    column = list(_ARCHITECTURES).index(machine)
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for numbers in _CALLS.values():
        if (number := numbers[column]) is not None:
            code += _refused(number, _EPERM)
    code += _refused(_CLONE3[column], _ENOSYS)
    code += _looked_at(_SOCKET[column], _FIRST, [(_EQUAL, 1, 0, _AF_UNIX), (_RETURN, 0, 0, _EPERM)])
    code += _looked_at(_CLONE[column], _FIRST, [(_ANY_BIT, 0, 1, _NAMESPACES), (_RETURN, 0, 0, _EPERM)])
    code += _looked_at(
        _IOCTL[column], _SECOND,
        [(_EQUAL, 1, 0, _TIOCSTI), (_EQUAL, 0, 1, _TIOCLINUX), (_RETURN, 0, 0, _EPERM)],
    )  # fmt: skip
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _refused(number: int, answer: int) -> list[Instruction]:
    return [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]


def _looked_at(number: int, offset: int, verdict: list[Instruction]) -> list[Instruction]:
    """Of this call an argument decides; what the verdict does not return on is allowed."""
    inside = [(_LOAD, 0, 0, offset), *verdict, (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(inside), number), *inside]
