"""Runs a server of the conformance suite that is reached through something in front of it.

Usage: advertise.py PORT VERSION COMMAND...: the command is a conformance server. The suite is told PORT where the server
says its own, and the server is told to speak this version of HTTP (1 or 2) where the suite says its callers'. Nothing
else is changed. Must never outlive the suite, nor leave the server behind.
"""

import select
import signal
import subprocess
import sys
import threading


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def changed(source, target, number):
    """Passes one message, four bytes of length first. Of a field that comes twice the last counts, so that field 2, a
    varint in both of them (the version asked for, the port answered), needs no search."""
    length = int.from_bytes(source.read(4), "big")
    message = source.read(length) + b"\x10" + varint(number)
    target.write(len(message).to_bytes(4, "big") + message)
    target.flush()


def main():
    port, version, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())

    def talk():
        changed(sys.stdin.buffer, server.stdin, version)
        changed(server.stdout, sys.stdout.buffer, port)

    threading.Thread(target=talk, daemon=True).start()
    suite = select.poll()
    # Whatever is asked for, a pipe that nobody reads any more is told.
    suite.register(sys.stdout, 0)
    while server.poll() is None:
        if suite.poll(20):
            server.kill()
            server.wait()
    sys.exit(server.returncode)


main()
