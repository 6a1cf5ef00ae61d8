#!/usr/bin/env python3
"""Makes good/, bad/ and errors of this folder, byte for byte the same each time. errors has a line for each of bad/: its
name and what knarr-unpack's message must hold."""
import gzip
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
BLOCK = 512


def octal(n, width):
    return b"%0*o\0" % (width - 1, n)


def base256(n, width):
    return (n | 1 << (width * 8 - 1)).to_bytes(width, "big") if n >= 0 else (n + (1 << width * 8)).to_bytes(width, "big")


def pad(data):
    return data + b"\0" * (-len(data) % BLOCK)


def header(name, kind=b"0", size=0, **fields):
    """A ustar header; a field given as bytes stands as it is."""
    f = {"mode": 0o755 if kind == b"5" else 0o644, "uid": 0, "gid": 0, "size": size, "mtime": 1000, "link": b"",
         "magic": b"ustar\x0000", "uname": b"", "gname": b"", "major": 0, "minor": 0, "rest": b"", "sum": None} | fields

    def number(key, width):
        return f[key] if isinstance(f[key], bytes) else octal(f[key], width)

    def text(value, width):
        return value[:width].ljust(width, b"\0")

    block = (text(name if isinstance(name, bytes) else name.encode(), 100) + number("mode", 8) + number("uid", 8)
             + number("gid", 8) + number("size", 12) + number("mtime", 12) + b" " * 8 + kind + text(f["link"], 100)
             + f["magic"] + text(f["uname"], 32) + text(f["gname"], 32) + number("major", 8) + number("minor", 8)
             + f["rest"]).ljust(BLOCK, b"\0")
    total = f["sum"] if f["sum"] is not None else sum(block)
    return block[:148] + b"%06o\0 " % total + block[156:]


def entry(name, kind=b"0", data=b"", **fields):
    return header(name, kind, **{"size": len(data)} | fields) + pad(data)


def record(key, value):
    body = b" " + key.encode() + b"=" + (value if isinstance(value, bytes) else str(value).encode()) + b"\n"
    n = len(body) + 1
    while len(str(n)) + len(body) != n:
        n = len(str(n)) + len(body)
    return str(n).encode() + body


def pax(*records, kind=b"x"):
    return entry("PaxHeaders/next", kind, b"".join(record(k, v) for k, v in records))


def raw_pax(data):
    return entry("PaxHeaders/next", b"x", data)


def gnu_long(kind, text):
    return entry("././@LongLink", kind, text + b"\0", magic=b"ustar  \0")


END = b"\0" * (2 * BLOCK)


def old_sparse(name, segments, real, data, more=b"", extended=False):
    table = b"".join(octal(o, 12) + octal(n, 12) for o, n in segments)
    rest = b"\0" * (386 - 345) + table.ljust(96, b"\0") + (b"\1" if extended else b"\0") + octal(real, 12)
    return header(name, b"S", len(data), magic=b"ustar  \0", rest=rest) + more + pad(data)


def sparse_block(segments, extended=False):
    table = b"".join(octal(o, 12) + octal(n, 12) for o, n in segments)
    return table.ljust(504, b"\0") + (b"\1" if extended else b"\0") + b"\0" * 7


def sparse_1_0(name, real, text, data):
    return pax(("GNU.sparse.major", 1), ("GNU.sparse.minor", 0), ("GNU.sparse.name", name),
               ("GNU.sparse.realsize", real)) + entry("GNUSparseFile.0/x", b"0", pad(text) + data)


ACL = b"\2\0\0\0" + b"\1\0\7\0\xff\xff\xff\xff" + b"\4\0\5\0\xff\xff\xff\xff" + b"\x20\0\5\0\xff\xff\xff\xff"
CAP = b"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0"  # cap_net_bind_service=ep

GOOD = {
    "empty": END,
    "nothing": b"",
    "no-end": entry("a", data=b"x"),
    "v7": entry("dir/", b"\0", mode=0o755, magic=b"\0" * 8) + entry("dir/f", b"\0", b"v7", magic=b"\0" * 8) + END,
    "kinds": entry("d/", b"5", mode=0o1777) + entry("d/f", data=b"data") + entry("d/h", b"1", link=b"d/f")
    + entry("d/s", b"2", link=b"../x") + entry("null", b"3", major=1, minor=3, mode=0o666)
    + entry("loop", b"4", major=7, minor=200) + entry("pipe", b"6") + entry("contiguous", b"7", b"seven") + END,
    "ustar-prefix": entry("f", data=b"p", rest=b"p" * 155) + END,
    "star-prefix": entry("f", data=b"p", rest=(b"p" * 131).ljust(163, b"\0") + b"tar\0") + END,
    "gnu-long": gnu_long(b"L", b"n" * 100 + b"/" + b"m" * 150) + entry("short", data=b"long name", magic=b"ustar  \0")
    + gnu_long(b"K", b"t" * 300) + gnu_long(b"L", b"l" * 200) + entry("s", b"2", link=b"t", magic=b"ustar  \0") + END,
    "base-256": entry("f", data=b"big", uid=base256(3000000, 8), gid=base256(4000000000, 8),
                      mtime=base256(1 << 35, 12), size=base256(3, 12)) + entry("past", mtime=base256(-100, 12)) + END,
    "signed-sum": entry("caf\xe9".encode("latin-1"), sum=sum(x - 256 if x > 127 else x for x in
                                                              header("caf\xe9".encode("latin-1"), sum=0)[:148])
                        + 256 + sum(header("x", sum=0)[156:])) + END,
    "pax": pax(("path", "päx/" + "é" * 120), ("mtime", "-12.5"), ("uid", 5000000), ("gid", 6000000), ("size", 4),
               ("atime", "1.5"), ("comment", "no = matter"), ("SCHILY.xattr.user.lines", b"a\nb=c\0d"),
               ("SCHILY.xattr.security.capability", CAP), ("LIBARCHIVE.xattr.user.p%41th", b"eHl6"))
    + entry("x", data=b"four", size=0)[:BLOCK] + pad(b"four") + pax(("comment", "global"), kind=b"g")
    + entry("label", b"V") + entry("after", data=b"1") + END,
    "pax-empty": raw_pax(b"") + entry("f") + raw_pax(b"\0" * 20) + entry("g") + END,
    "acl": pax(("SCHILY.xattr.system.posix_acl_default", ACL)) + entry("d/", b"5") + entry("d/f", data=b"1") + END,
    "sparse-old": old_sparse("s", [(512, 512), (8192, 3), (16384, 512), (32768, 0)], 65536, b"a" * 512 + b"bcd"
                             + b"e" * 512) + END,
    "sparse-old-extended": old_sparse("s", [(i * 4096, 1) for i in range(4)], 1 << 20, b"0123456789abcdefghijklmnopqrst",
                                      sparse_block([(i * 4096, 1) for i in range(4, 25)], True)
                                      + sparse_block([(i * 4096, 1) for i in range(25, 30)]), True) + END,
    "sparse-0.0": pax(("GNU.sparse.size", 100000), ("GNU.sparse.numblocks", 2), ("GNU.sparse.offset", 10),
                      ("GNU.sparse.numbytes", 3), ("GNU.sparse.offset", 90000), ("GNU.sparse.numbytes", 2))
    + entry("s", data=b"abcde") + END,
    "sparse-0.1": pax(("GNU.sparse.size", 100000), ("GNU.sparse.numblocks", 2), ("GNU.sparse.name", "real"),
                      ("GNU.sparse.map", "10,3,90000,2")) + entry("GNUSparseFile.1/s", data=b"abcde") + END,
    "sparse-1.0": sparse_1_0("real", 100000, b"3\n10\n3\n90000\n2\n100000\n0\n", b"abcde") + END,
    "order": entry("h", b"1", link=b"t/f") + entry("t/f", data=b"late target") + entry("t/", b"5", mode=0o700)
    + entry("h2", b"1", link=b"h") + entry("r", b"5") + entry("r/x", data=b"x") + entry("r", data=b"file now")
    + entry("r2", data=b"1") + entry("r2/", b"5") + entry("./r2/../r2/y", data=b"y") + END,
    "whiteouts": entry(".wh.top") + entry("d/.wh.one") + entry("d/.wh..wh..opq") + entry("d/new", data=b"n")
    + entry(".wh.again") + entry("again/f", data=b"f") + entry(".wh..wh.plnk/1", data=b"aufs") + END,
    "link-inside": entry("usr/lib/", b"5") + entry("lib", b"2", link=b"/usr/lib") + entry("lib/f", data=b"f")
    + entry("up", b"2", link=b"../../../..") + entry("up/g", data=b"g") + END,
    "absolute": entry("/etc/f", data=b"f") + entry("//x//./y", data=b"y") + END,
    "setuid": entry("su", data=b"s", mode=0o6755, uid=1000, gid=1000) + entry("sg/", b"5", mode=0o2775, gid=50)
    + entry("sg/in", data=b"i", gid=7) + END,
}

BAD = {
    "rubbish": (b"this is no tar " * 100, "no tar archive"),
    "sum": (entry("a", sum=1) + END, "checksum"),
    "cut-header": (entry("a", data=b"x")[:300], "cut short"),
    "cut-data": (entry("a", data=b"x" * 2000)[:1000], "cut short"),
    "cut-padding": (entry("a", data=b"x")[:600], "cut short"),
    "cut-long-name": (gnu_long(b"L", b"n" * 900)[:700], "cut short"),
    "cut-pax": (pax(("path", "p" * 900))[:700], "cut short"),
    "long-name-alone": (gnu_long(b"L", b"n" * 200) + END, "without its entry"),
    "pax-alone": (pax(("path", "p")) + END, "without its entry"),
    "up": (entry("../evil", data=b"x") + END, "leaves the layer"),
    "up-later": (entry("a/b/../../../evil") + END, "leaves the layer"),
    "up-pax": (pax(("path", "../evil")) + entry("a") + END, "leaves the layer"),
    "up-whiteout": (entry("../.wh.etc") + END, "leaves the layer"),
    "link-up": (entry("h", b"1", link=b"../../etc/passwd") + END, "links outside"),
    "link-nowhere": (entry("h", b"1", link=b"etc/passwd") + END, "which the layer does not have"),
    "link-to-folder": (entry("d/", b"5") + entry("h", b"1", link=b"d") + END, "hard link to a folder"),
    "link-to-root": (entry("h", b"1", link=b"/") + END, "hard link to the root"),
    "link-empty": (entry("h", b"1") + END, "without a target"),
    "link-cycle": (entry("a", b"1", link=b"b") + entry("b", b"1", link=b"a") + END, "which the layer does not have"),
    "symlink-loop": (entry("a", b"2", link=b"b") + entry("b", b"2", link=b"a") + entry("a/f") + END, "too many links"),
    "symlink-self": (entry("a", b"2", link=b"a/a/a") + entry("a/f") + END, "too many links"),
    "file-as-folder": (entry("a", data=b"x") + entry("a/f") + END, "Not a directory"),
    "device-as-folder": (entry("a", b"3", major=1, minor=3) + entry("a/f") + END, "Not a directory"),
    "root-is-file": (entry(".", data=b"x") + END, "the root can only be a folder"),
    "root-is-link": (entry("./", b"2", link=b"/etc") + END, "the root can only be a folder"),
    "no-name": (entry("") + END, "without a name"),
    "whiteout-empty": (entry("d/.wh.") + END, "a whiteout of nothing"),
    "whiteout-dot": (entry("d/.wh..") + END, "a whiteout of nothing"),
    "whiteout-dots": (entry("d/.wh...") + END, "a whiteout of nothing"),
    "unknown-type": (entry("a", b"Q") + END, "unknown type 0x51"),
    "multi-volume": (entry("a", b"M") + END, "multi-volume"),
    "size-text": (entry("a", size=b"12x4567890 \0") + END, "size is no number"),
    "size-negative": (entry("a", size=base256(-1, 12)) + END, "size is no number"),
    "size-huge": (entry("a", size=b"\x80" + b"\x7f" * 11) + END, "size is no number"),
    "size-most": (entry("a", size=base256((1 << 63) - 1, 12)) + END, "cut short"),
    "uid-huge": (entry("a", uid=base256(1 << 32, 8)) + END, "uid is no number"),
    "uid-minus-one": (entry("a", uid=base256((1 << 32) - 1, 8)) + END, "uid is no number"),
    "mode-text": (entry("a", mode=b"rwxr-xr\0") + END, "mode is no number"),
    "name-long": (gnu_long(b"L", b"n" * 4096) + entry("a") + END, "long name"),
    "component-long": (gnu_long(b"L", b"n" * 300) + entry("a") + END, "File name too long"),
    "too-deep": (gnu_long(b"L", b"d/" * 257 + b"f") + entry("a") + END, "folders deep"),
    "pax-no-length": (raw_pax(b"path=x\n") + entry("a") + END, "no right length"),
    "pax-length-past": (raw_pax(b"99 path=x\n") + entry("a") + END, "no right length"),
    "pax-length-short": (raw_pax(b"5 path=x\n") + entry("a") + END, "KEY=VALUE"),
    "pax-length-zero": (raw_pax(b"0 path=x\n") + entry("a") + END, "no right length"),
    "pax-no-equals": (raw_pax(b"8 pathx\n") + entry("a") + END, "KEY=VALUE"),
    "pax-no-key": (raw_pax(b"7 =xxx\n") + entry("a") + END, "KEY=VALUE"),
    "pax-path-nul": (pax(("path", b"a\0b")) + entry("a") + END, "holds a NUL"),
    "pax-size-text": (pax(("size", "many")) + entry("a") + END, '"size" has a value that cannot be'),
    "pax-size-negative": (pax(("size", "-1")) + entry("a") + END, '"size" has a value that cannot be'),
    "pax-mtime-text": (pax(("mtime", "1.x")) + entry("a") + END, '"mtime" has a value that cannot be'),
    "pax-uid-huge": (pax(("uid", 1 << 40)) + entry("a") + END, '"uid" has a value that cannot be'),
    "pax-base64": (pax(("LIBARCHIVE.xattr.user.x", "a*b")) + entry("a") + END, "has a value that cannot be"),
    "pax-huge": (header("PaxHeaders/next", b"x", 1 << 30) + END, "a pax header of 1073741824 bytes"),
    "xattrs-many": (pax(*[(f"SCHILY.xattr.user.{i}", "v") for i in range(129)]) + entry("a") + END,
                    "more than 128 extended attributes"),
    "sparse-no-size": (pax(("GNU.sparse.map", "0,1")) + entry("s", data=b"a") + END, "no real size"),
    "sparse-half": (pax(("GNU.sparse.size", 10), ("GNU.sparse.offset", 1)) + entry("s", data=b"a") + END,
                    "in the middle of a segment"),
    "sparse-twice": (pax(("GNU.sparse.size", 10), ("GNU.sparse.offset", 1), ("GNU.sparse.offset", 2)) + entry("s") + END,
                     "do not alternate"),
    "sparse-odd-map": (pax(("GNU.sparse.size", 10), ("GNU.sparse.map", "1,2,3")) + entry("s") + END,
                       "GNU.sparse.map\" has a value"),
    "sparse-two-maps": (pax(("GNU.sparse.size", 10), ("GNU.sparse.map", "1,2"), ("GNU.sparse.map", "1,2"))
                        + entry("s", data=b"ab") + END, "two sparse maps"),
    "sparse-unknown": (pax(("GNU.sparse.magic", "1")) + entry("s") + END, "is not known"),
    "sparse-major": (pax(("GNU.sparse.major", 2)) + entry("s") + END, "GNU.sparse.major"),
    "sparse-outside": (pax(("GNU.sparse.size", 10), ("GNU.sparse.map", "9,2")) + entry("s", data=b"ab") + END,
                       "overlap or leave the file"),
    "sparse-overlap": (pax(("GNU.sparse.size", 10), ("GNU.sparse.map", "0,5,4,2")) + entry("s", data=b"abcdefg") + END,
                       "overlap or leave the file"),
    "sparse-wraps": (pax(("GNU.sparse.size", (1 << 63) - 1), ("GNU.sparse.map", f"{(1 << 63) - 2},{(1 << 63) - 2}"))
                     + entry("s", data=b"a") + END, "overlap or leave the file"),
    "sparse-sum": (pax(("GNU.sparse.size", 10), ("GNU.sparse.map", "0,5")) + entry("s", data=b"ab") + END,
                   "the sparse map holds 5 bytes, the archive 2"),
    "sparse-old-sum": (old_sparse("s", [(0, 5)], 10, b"ab") + END, "the sparse map holds 5 bytes"),
    "sparse-old-cut": (old_sparse("s", [(0, 1)], 10, b"", extended=True), "cut short"),
    "sparse-1.0-text": (sparse_1_0("r", 10, b"one\n", b"") + END, "no number where one belongs"),
    "sparse-1.0-long": (sparse_1_0("r", 10, b"9999\n1\n", b"") + END, "no number where one belongs"),
    "sparse-1.0-past": (sparse_1_0("r", 10, b"9\n" + b"1\n" * 255, b"") + END, "overlap or leave"),
    "sparse-1.0-short": (sparse_1_0("r", 10, b"300\n" + b"1\n" * 254, b"") + END, "longer than the entry"),
    "gzip-cut": (gzip.compress(entry("a", data=bytes(range(256)) * 8) + END, mtime=0)[:200], "gzip: the data is cut short"),
    "gzip-sum": (gzip.compress(entry("a") + END, mtime=0)[:-8] + b"\0" * 8, "gzip: a checksum is wrong"),
    "gzip-rubbish": (gzip.compress(entry("a") + END, mtime=0) + b"rubbish", "gzip: rubbish after the end"),
    "gzip-damaged": (gzip.compress(entry("a") + END, mtime=0)[:10] + b"\xff" * 50, "gzip: the data is damaged"),
    "zstd-cut": (b"zstd", "zstd: the data is cut short"),
    "zstd-window": (b"\x28\xb5\x2f\xfd\x00\xf8" + b"\0" * 20, "zstd: "),
    "xz": (b"\xfd7zXZ\0" + b"\0" * 50, "compressed with xz"),
    "bzip2": (b"BZh91AY&SY" + b"\0" * 50, "compressed with bzip2"),
}


def main():
    for folder in ("good", "bad"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    for name, data in GOOD.items():
        (HERE / "good" / f"{name}.tar").write_bytes(data)
    BAD["zstd-cut"] = (subprocess.run(["zstd", "-q", "-c"], input=bytes(range(256)) * 40, capture_output=True,
                                      check=True).stdout[:150], BAD["zstd-cut"][1])
    for name, (data, _) in BAD.items():
        (HERE / "bad" / f"{name}.tar").write_bytes(data)
    (HERE / "errors").write_text("".join(f"{name}: {error}\n" for name, (_, error) in BAD.items()))


if __name__ == "__main__":
    main()
