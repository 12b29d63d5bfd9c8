#!/usr/bin/env python3
"""Counts the instructions that Redis executes for a message: appended and ended, so many to a call.

A processor's time depends on the machine and on who else uses it; instructions do not, so a change of the functions
(src/backend/cluster/functions) can be judged on a busy machine. Needs valgrind, and a redis-server in .parts/bin
(tests/setup) or in the path. The server has an append-only file, as the store asks for.

    python3 bench/functions.py             # 1, 8 and 46 messages to a call, results not kept and kept
    python3 bench/functions.py 46 plain    # one of these
"""

import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FUNCTIONS = os.path.join(ROOT, "src", "backend", "cluster", "functions")
PREFIX = "bench:{0001}"
NOW = 1_767_225_600_000
ENVELOPE = b'{"to":{"kind":"job","key":"12"},"command":{"amount":1,"note":"%s"},"accepted":%d}' % (b"x" * 100, NOW)
RESULT = b'%016d{"status":"completed","attempts":1,"result":1}' % NOW
NODE, TOKEN, PARTITIONS = 1, 77, 16


class Redis:
    """A server under callgrind, and a connection to it."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ours = os.path.join(ROOT, ".parts", "bin", "redis-server")
        server = [ours if os.path.exists(ours) else "redis-server", "--port", str(port), "--bind", "127.0.0.1"]
        server += ["--save", "", "--appendonly", "yes", "--dir", folder]
        count = ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + os.path.join(folder, "callgrind")]
        self.process = subprocess.Popen(count + server, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.answers = self.socket.makefile("rb")

    def ask(self, *words):
        out = b"*%d\r\n" % len(words)
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            out += b"$%d\r\n%s\r\n" % (len(word), word)
        self.socket.sendall(out)
        return self.answer()

    def answer(self):
        line = self.answers.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            sys.exit("Redis: " + rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.answers.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def call(self, function, *args):
        return self.ask("FCALL", "greenroom_1_" + function, 2, PREFIX, PREFIX + ":head", *args)

    def end(self):
        """Ends the server; how many instructions it has executed."""
        self.socket.sendall(b"SHUTDOWN NOSAVE\r\n")
        said = self.process.communicate()[1]
        return int(re.search(r"Collected : (\d+)", said).group(1))


def pack(value):
    """MessagePack, of what the commit function takes."""
    if isinstance(value, int):
        return b"\xcf" + struct.pack(">Q", value)
    if isinstance(value, bytes):
        return b"\xda" + struct.pack(">H", len(value)) + value
    return b"\xdc" + struct.pack(">H", len(value)) + b"".join(map(pack, value))


def ends(numbers, keep):
    """All of them end: {completed failed bytes slabs results ended}, as in encode.rs."""
    slabs, results = [], []
    for slab in sorted({number // 512 for number in numbers}):
        names = [b"%d" % number for number in numbers if number // 512 == slab]
        slabs += [slab, names]
        results += [slab, [part for name in names for part in (name, RESULT)]]
    kept = [NOW, *numbers] if keep else []
    return pack([len(numbers), 0, len(numbers) * len(ENVELOPE), slabs, results if keep else [], kept])


def instructions(calls, each, keep):
    """What a server executes in all, with so many calls of so many messages."""
    with tempfile.TemporaryDirectory() as folder:
        redis = Redis(folder)
        with open(os.path.join(ROOT, "src", "backend", "cluster", "redis", "functions.rs")) as source:
            files = re.findall(r'include_str!\("\.\./functions/(\w+)\.lua"\)', source.read())
        redis.ask("FUNCTION", "LOAD", "".join(open(os.path.join(FUNCTIONS, name + ".lua")).read() for name in files))
        redis.call("warm", 1, 1, 0, 1 << 40, 0, 0, 0)
        redis.call("acquire", NODE, TOKEN, NODE, 2, 1 << 40, NODE, TOKEN)
        pairs = [b"", ENVELOPE] * each
        for serial in range(1, calls + 1):
            bytes_ = each * len(ENVELOPE)
            _, first, _ = redis.call("append", NODE, TOKEN, serial, 0, 1 << 33, PARTITIONS, "", bytes_, *pairs)
            redis.call("commit", 2, serial, ends(range(first, first + each), keep))
        return redis.end()


def main():
    sizes = [int(sys.argv[1])] if len(sys.argv) > 1 else [1, 8, 46]
    kinds = [sys.argv[2]] if len(sys.argv) > 2 else ["plain", "kept"]
    for kind in kinds:
        for each in sizes:
            few, many = (instructions(calls, each, kind == "kept") for calls in (100, 500))
            print(f"{kind}, {each} to a call: {(many - few) / 400 / each:,.0f} instructions a message", flush=True)


if __name__ == "__main__":
    main()
