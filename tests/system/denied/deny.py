"""Kernel calls that fail for a program and all that it starts, as they would on an older kernel or in a stricter sandbox:
a seccomp filter asks the test about each, and the test says which fail, for whom and how."""
import contextlib
import ctypes
import fcntl
import os
import platform
import select
import socket
import struct
import threading

ARCH = {"x86_64": 0xc000003e, "aarch64": 0xc00000b7}[platform.machine()]
# From Linux 5.1 on the numbers are the same everywhere; the older ones differ.
NUMBERS = {
    "pidfd_send_signal": 424, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437, "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    **{"x86_64": {"mount": 165, "umount2": 166, "pivot_root": 155, "unshare": 272, "setns": 308, "keyctl": 250,
                  "execveat": 322, "seccomp": 317, "syncfs": 306, "capset": 126, "sethostname": 170},
       "aarch64": {"mount": 40, "umount2": 39, "pivot_root": 41, "unshare": 97, "setns": 268, "keyctl": 219,
                   "execveat": 281, "seccomp": 277, "syncfs": 267, "capset": 91, "sethostname": 161}}[platform.machine()],
}
NAMES = {number: name for name, number in NUMBERS.items()}

LD, JEQ, RET = 0x20, 0x15, 0x06
RET_ALLOW, RET_USER_NOTIF = 0x7fff0000, 0x7fc00000
SECCOMP_SET_MODE_FILTER, FLAG_NEW_LISTENER = 1, 8
NOTIF_RECV, NOTIF_SEND, CONTINUE = 0xc0502100, 0xc0182101, 1
NOTIF, ANSWER = "QIIiIQ6Q", "QqiI"  # struct seccomp_notif, struct seccomp_notif_resp


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def filter_code():
    lines = [(LD, 0, 0, 4), (JEQ, 0, len(NUMBERS) + 1, ARCH), (LD, 0, 0, 0)]
    for left, number in zip(range(len(NUMBERS), 0, -1), NUMBERS.values()):
        lines.append((JEQ, left, 0, number))
    lines += [(RET, 0, 0, RET_ALLOW), (RET, 0, 0, RET_USER_NOTIF)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def program_of(pid):
    """knarr-pod and knarr-unpack run from a mount of their file alone, which has no name: they are known by their command."""
    with contextlib.suppress(OSError):
        path = os.readlink(f"/proc/{pid}/exe")
        with open(f"/proc/{pid}/comm") as comm:
            return os.path.basename(path) or comm.read().strip()
    return ""


def text_at(pid, address):
    """A short text in a process's memory: of a call that waits for its answer."""
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        memory.seek(address)
        return memory.read(64).split(b"\0")[0].decode(errors="replace")


class Denials:
    """`hook` is the preexec_fn of one program. `with denials.of("knarr-pod", "fsopen", errno.ENOSYS) as hits:` while the
    block runs; hits has a line for each call that was refused."""

    def __init__(self):
        code = filter_code()
        self.code = ctypes.create_string_buffer(code, len(code))
        self.program = Program(len(code) // 8, ctypes.addressof(self.code))
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.here, self.there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.rule, self.hits = None, []
        threading.Thread(target=self.serve, daemon=True).start()

    def hook(self):
        """Needs CAP_SYS_ADMIN: no_new_privs would be a change of its own."""
        fd = self.libc.syscall(NUMBERS["seccomp"], SECCOMP_SET_MODE_FILTER, FLAG_NEW_LISTENER, ctypes.byref(self.program))
        if fd < 0:
            raise OSError(ctypes.get_errno(), "seccomp with a listener")
        socket.send_fds(self.there, [b"x"], [fd])
        os.close(fd)

    def serve(self):
        while True:
            _, fds, _, _ = socket.recv_fds(self.here, 1, 1)
            threading.Thread(target=self.answer, args=fds, daemon=True).start()

    def answer(self, fd):
        note = bytearray(struct.calcsize(NOTIF))
        with contextlib.suppress(OSError):
            while True:
                note[:] = bytes(len(note))
                try:
                    fcntl.ioctl(fd, NOTIF_RECV, note, True)
                except InterruptedError:
                    continue
                except FileNotFoundError:  # who asked was killed meanwhile, or nobody is left
                    if self.over(fd):
                        break
                    continue
                answer = self.decide(*struct.unpack(NOTIF, note))
                with contextlib.suppress(FileNotFoundError):
                    fcntl.ioctl(fd, NOTIF_SEND, answer)
        os.close(fd)

    @staticmethod
    def over(fd):
        p = select.poll()
        p.register(fd, select.POLLIN)
        return any(event & select.POLLHUP for _, event in p.poll(0))

    def decide(self, number, pid, _flags, call, _arch, _at, *arguments):
        rule = self.rule
        if rule and NAMES[call] == rule[1] and program_of(pid) == rule[0] and (not rule[3] or rule[3](pid, arguments)):
            self.hits.append(f"{rule[0]} {pid} {NAMES[call]}")
            return struct.pack(ANSWER, number, 0, -rule[2], 0)
        return struct.pack(ANSWER, number, 0, 0, CONTINUE)

    @contextlib.contextmanager
    def of(self, program, call, error, when=None):
        """when(pid, arguments): only such calls."""
        self.hits = []
        self.rule = (program, call, error, when)
        try:
            yield self.hits
        finally:
            self.rule = None
